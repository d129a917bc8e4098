//! A hundred hostile templates, in one process that renders a good mail after each of them.

mod cases;

use std::time::Instant;

use serde_json::json;

use self::cases::{Case, Fate, cases};
use super::*;
use crate::domain::quantity::ByteSize;

/// What one case may take, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_hundred_hostile_templates_are_refused_or_contained_and_the_next_mail_goes_on() {
    let cases = cases();
    assert!(cases.len() >= 100, "{}", cases.len());
    let mut names: Vec<_> = cases.iter().map(|case| case.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    let mut wrong = Vec::new();
    for case in cases {
        let (name, began) = (case.name, Instant::now());
        if let Err(what) = meet(case).await {
            wrong.push(format!("{name}: {what}"));
        }
        if began.elapsed() > PATIENCE {
            wrong.push(format!("{name}: took {:?}", began.elapsed()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What went otherwise than it should.
async fn meet(case: Case) -> Result<(), String> {
    let folder = Folder::new().mail("good", "<p>{{name}}</p>", &json!({"name": "x"}));
    for (path, text) in &case.files {
        folder.put(path, text);
    }
    // What must be slow is stopped soon; all else has time, also on a machine that has none.
    let is_slow = matches!(case.fate, Fate::Refused(words) | Fate::Fails(words) if words == cases::SLOW);
    let timeout = if is_slow { Duration::from_millis(300) } else { Duration::from_secs(10) };
    let is_large = matches!(case.fate, Fate::Refused(words) | Fate::Fails(words) if words == cases::LARGE);
    let output_bytes_max = ByteSize(if is_large { 64 << 10 } else { 1 << 20 });
    let render_timeout = HumanDuration(timeout);
    let settings = TemplateSettings { output_bytes_max, render_timeout, ..folder.settings() };
    let (templates, problems) = folder.load_with(&settings);
    let problems = problems.join("\n");
    let data = case.data.unwrap_or_else(|| templates.sample("bad").cloned().unwrap_or_else(|| json!({})));
    let rendered = templates.render(None, "bad", &["en"], data).await;
    let good = templates.render(None, "good", &["en"], json!({"name": "Ann"})).await;
    if good.as_ref().ok().and_then(|good| good.html.as_deref()) != Some("<p>Ann</p>") {
        return Err(format!("the good mail suffers: {good:?}"));
    }
    match case.fate {
        Fate::Refused(words) if !problems.contains(words) => Err(format!("{words:?} is not in:\n{problems}")),
        Fate::Refused(_) => Ok(()),
        Fate::Fails(_) | Fate::Renders(_) if !problems.is_empty() => Err(format!("refused: {problems}")),
        Fate::Fails(words) => match rendered {
            Err(error) if error.to_string().contains(words) => Ok(()),
            other => Err(format!("{words:?} is not in: {}", short(&format!("{other:?}")))),
        },
        Fate::Renders(check) => match rendered {
            Ok(rendered) if check(&rendered) => Ok(()),
            other => Err(format!("came out as: {}", short(&format!("{other:?}")))),
        },
    }
}

fn short(text: &str) -> String {
    text.chars().take(2_000).collect()
}
