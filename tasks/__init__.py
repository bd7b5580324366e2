"""Tasks: one file per problem, each with its loss, metrics and readable predictions. `tasks.task` is the contract."""
