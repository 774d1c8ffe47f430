"""`mllm init TASK DIR`: a project to start from, which trains and evaluates as it stands."""
