//! The templates of a configuration; what is wrong with them is wrong with it, and so is a journey that sends another.

use std::sync::Arc;

use crate::config::{Config, Problem, Problems};
use crate::templates::{TemplateProblem, Templates};

/// Loads them, with every problem there is: theirs, and journeys that name one which is none.
#[must_use]
pub fn load(config: &Config) -> (Arc<Templates>, Problems) {
    let (templates, found) = Templates::load(&config.templates);
    let mut problems = Problems::default();
    for TemplateProblem { file, line, detail } in found {
        problems.push(Problem { file, line, key: String::new(), detail });
    }
    problems.append(config.missing_templates(|name| templates.has(name)));
    (Arc::new(templates), problems)
}

/// Loads them for a gateway: any problem refuses them.
pub fn for_serving(config: &Config) -> Result<Arc<Templates>, Problems> {
    let (templates, problems) = load(config);
    if problems.is_empty() { Ok(templates) } else { Err(problems) }
}
