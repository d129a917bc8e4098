//! Why a mail was not rendered: which template, culture and line, and what is wrong there; never what the data said.

use handlebars::RenderErrorReason;
use thiserror::Error;

use super::watch::{self, Stop};

/// Why a mail or page was not rendered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RenderError {
    /// There is none of this name.
    #[error("there is no template {name}")]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// It has a problem that was told when it was loaded.
    #[error("{file}: did not pass the check when it was loaded")]
    Broken {
        /// The file.
        file: String,
    },
    /// The data cannot be used with any template.
    #[error("the data of {name} {why}")]
    Data {
        /// The template it was for.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Template and data do not go together.
    #[error("{file}{}: {why} (culture {culture})", line_text(*line))]
    Failed {
        /// The file it happened in; of a mail's own files or a partial.
        file: String,
        /// The culture it was rendered for.
        culture: String,
        /// The line in it.
        line: Option<usize>,
        /// What is wrong.
        why: String,
    },
    /// It took longer than `templates.render_timeout`.
    #[error("{name}: rendering took longer than templates.render_timeout (culture {culture})")]
    TooSlow {
        /// The mail.
        name: String,
        /// The culture it was rendered for.
        culture: String,
    },
    /// A panic while rendering; the log says where.
    #[error("{name}: rendering failed inside the program (culture {culture})")]
    Panicked {
        /// The mail.
        name: String,
        /// The culture it was rendered for.
        culture: String,
    },
    /// Too many mails are being rendered: later perhaps.
    #[error("{name}: no thread was free to render it within templates.wait_max")]
    Busy {
        /// The mail.
        name: String,
    },
    /// Too many renders did not stop: later perhaps.
    #[error("{name}: templates.lost_threads_max renders are still running that should have stopped long ago")]
    Stuck {
        /// The mail.
        name: String,
    },
}

impl RenderError {
    /// Whether the same mail may be rendered later: it is we who could not, not the template or the data.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Stuck { .. } => true,
            Self::Unknown { .. }
            | Self::Broken { .. }
            | Self::Data { .. }
            | Self::Failed { .. }
            | Self::TooSlow { .. }
            | Self::Panicked { .. } => false,
        }
    }
}

fn line_text(line: Option<usize>) -> String {
    line.map(|line| format!(": line {line}")).unwrap_or_default()
}

/// What went wrong in a template, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The file's name in the book.
    pub(super) file: String,
    pub(super) line: Option<usize>,
    pub(super) why: Why,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// Time ran out.
    Late,
    /// Anything else, in words that hold nothing of the data.
    Said(String),
}

impl Fault {
    pub(super) fn said(file: &str, why: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, why: Why::Said(why.into()) }
    }

    /// What handlebars says, without what may come from the data.
    pub(super) fn of(error: &handlebars::RenderError, file: &str) -> Self {
        let why = match watch::stopped() {
            Some(Stop::Late) => Why::Late,
            Some(Stop::Full) => Why::Said("more comes out than templates.output_bytes_max".to_owned()),
            None => Why::Said(in_words(error.reason())),
        };
        Self { file: error.template_name.clone().unwrap_or_else(|| file.to_owned()), line: error.line_no, why }
    }
}

/// Names in a reason are the template's own: names that come from data are refused when a template is loaded.
fn in_words(reason: &RenderErrorReason) -> String {
    use RenderErrorReason as Reason;
    match reason {
        Reason::MissingVariable(Some(path)) => format!("the data has no {path}"),
        Reason::MissingVariable(None) => "the data has nothing there".to_owned(),
        Reason::PartialNotFound(name) => format!("there is no partial {name}"),
        Reason::PartialBlockNotFound => "@partial-block: this partial was called without a block".to_owned(),
        Reason::HelperNotFound(name) => format!("there is no helper {name}"),
        Reason::ParamNotFoundForIndex(helper, index) => format!("{helper} wants {} or more values", index + 1),
        Reason::ParamNotFoundForName(helper, name) => format!("{helper} wants a value for {name}"),
        Reason::ParamTypeMismatchForName(helper, name, wanted)
        | Reason::HashTypeMismatchForName(helper, name, wanted) => format!("{helper}: {name} must be {wanted}"),
        Reason::InvalidParamType(wanted) => format!("a value must be {wanted}"),
        Reason::BlockContentRequired => "a block is wanted".to_owned(),
        Reason::InvalidJsonIndex(_) => "a list is asked for a name instead of a number".to_owned(),
        // Our own helpers' words, see `verbs`.
        Reason::Other(said) => said.clone(),
        _ => "cannot be rendered".to_owned(),
    }
}
