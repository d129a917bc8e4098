//! A stand-in until the room is built.
use serde_json::Value;
/// T
#[derive(Debug, Default)]
pub struct Templates;
/// R
#[derive(Debug)]
pub struct Rendered {
    /// s
    pub subject: String,
    /// h
    pub html: Option<String>,
    /// t
    pub text: Option<String>,
    /// c
    pub culture: String,
}
/// E
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// u
    #[error("x")]
    Unknown,
}
impl Templates {
    /// r
    pub async fn render(&self, mail: &str, cultures: &[&str], data: Value) -> Result<Rendered, RenderError> {
        if mail == "broken" {
            return Err(RenderError::Unknown);
        }
        Ok(Rendered {
            subject: format!("{mail} {}", cultures[0]),
            html: Some(format!("<p>{data}</p>")),
            text: None,
            culture: cultures[0].to_owned(),
        })
    }
}
