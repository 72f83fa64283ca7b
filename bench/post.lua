-- Sends the bodies of a file in turn, a line each, and writes what was measured as JSON.
-- wrk -s post.lua URL -- FILE

local requests, turn = {}, 0

function init(arguments)
  local headers = { ["Content-Type"] = "application/json" }
  for body in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, headers, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"per_second": %.3f, "p50": %.6f, "p99": %.6f, "failed": %d}\n',
    summary.requests * 1e6 / summary.duration,
    latency:percentile(50) / 1e6,
    latency:percentile(99) / 1e6,
    errors.connect + errors.read + errors.write + errors.timeout + errors.status
  ))
end
