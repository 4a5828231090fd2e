//! A mistake in a configuration, as a component finds it: where below its table, what, and what to do.

/// One mistake in one component's table. The agent adds file, line, column and a caret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The keys that lead to the value, from the component's table down; the index for an element of an array.
    pub path: Vec<String>,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Problem {
    /// The problem `message` with the value at `path` (keys with dots between them).
    pub fn at(path: &str, message: impl ToString) -> Problem {
        let path = path.split('.').filter(|key| !key.is_empty()).map(str::to_owned).collect();
        Problem { path, message: message.to_string(), help: None }
    }

    /// The same with advice.
    pub fn help(self, help: impl ToString) -> Problem {
        Problem { help: Some(help.to_string()), ..self }
    }
}
