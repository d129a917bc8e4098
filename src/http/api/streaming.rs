//! Lists without end, one to a line: as CSV or NDJSON, page after page as they are taken.

use actix_web::HttpResponse;
use actix_web::http::header::{ACCEPT, HeaderMap};
use actix_web::web::Bytes;
use async_trait::async_trait;
use futures_util::stream;

use crate::domain::message::sheet::Form;
use crate::store::StoreError;

/// What is read at once for a list without end.
pub(super) const STREAMED_AT_ONCE: usize = 500;

/// What the caller would like best of what there is: a list as lines, or `None`, a page of JSON. Who says nothing gets JSON.
pub(super) fn form(headers: &HeaderMap) -> Option<Form> {
    let accepted = headers.get_all(ACCEPT).filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let mut forms = accepted.filter_map(|range| match range.split(';').next().unwrap_or_default().trim() {
        "text/csv" => Some(Some(Form::Csv)),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Some(Some(Form::Ndjson)),
        "application/json" => Some(None),
        _ => None,
    });
    forms.next().flatten()
}

/// A list that is walked page by page.
#[async_trait]
pub(super) trait Pages: Send + 'static {
    /// Adds the next page to `text`; whether there may be more.
    async fn step(&mut self, text: &mut String) -> Result<bool, StoreError>;
}

/// The whole list: the memory it needs does not grow with it. A store that fails on the way breaks the answer off, which
/// no client takes for its end.
pub(super) async fn stream_of(mut pages: impl Pages, form: Form, head: String) -> Result<HttpResponse, StoreError> {
    // The first is asked for before anything is answered: what fails there still has a status.
    let mut first = head;
    let more = pages.step(&mut first).await?;
    let rest = stream::try_unfold(more.then_some(pages), |pages| async move {
        let Some(mut pages) = pages else { return Ok(None) };
        let mut text = String::new();
        let more = pages.step(&mut text).await?;
        Ok::<_, StoreError>(Some((Bytes::from(text), more.then_some(pages))))
    });
    let all = stream::StreamExt::chain(stream::once(async { Ok(Bytes::from(first)) }), rest);
    let media = match form {
        Form::Csv => "text/csv; charset=utf-8",
        Form::Ndjson => "application/x-ndjson",
    };
    Ok(HttpResponse::Ok().content_type(media).streaming(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn the_first_form_that_there_is_counts() {
        for (accept, wanted) in [
            ("*/*", None),
            ("text/html, text/csv;q=0.9", Some(Form::Csv)),
            ("application/x-ndjson", Some(Form::Ndjson)),
            ("application/json, text/csv", None),
            ("text/plain", None),
        ] {
            let request = TestRequest::get().append_header((ACCEPT, accept)).to_http_request();
            assert_eq!(form(request.headers()), wanted, "{accept}");
        }
    }
}
