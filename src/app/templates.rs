//! The templates of a configuration; what is wrong with them is wrong with it.

use std::sync::Arc;

use crate::config::{Config, Problems};
use crate::templates::Templates;

/// Loads them, with every problem there is.
#[must_use]
pub fn load(config: &Config) -> (Arc<Templates>, Problems) {
    let (templates, found) = Templates::load(&config.templates);
    let mut problems = Problems::default();
    for problem in found {
        let line = problem.line.map(|line| format!("line {line}: ")).unwrap_or_default();
        problems.add(problem.file, "", format!("{line}{}", problem.detail));
    }
    (Arc::new(templates), problems)
}

/// Loads them for a gateway: any problem refuses them.
pub fn for_serving(config: &Config) -> Result<Arc<Templates>, Problems> {
    let (templates, problems) = load(config);
    if problems.is_empty() { Ok(templates) } else { Err(problems) }
}
