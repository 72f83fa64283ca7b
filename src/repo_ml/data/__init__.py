"""Where training data comes from; all that the project knows of learners is in this folder."""
