//! The page: four files inside the program.

use hyper::StatusCode;

use crate::reply::{Reply, document};

/// The page's file at a path, if there is one.
pub(crate) fn file(path: &str) -> Option<Reply> {
    let (kind, text) = match path {
        "/" => ("text/html; charset=utf-8", include_str!("../assets/index.html")),
        "/style.css" => ("text/css; charset=utf-8", include_str!("../assets/style.css")),
        "/app.js" => ("text/javascript; charset=utf-8", include_str!("../assets/app.js")),
        "/icon.svg" => ("image/svg+xml", include_str!("../assets/icon.svg")),
        _ => return None,
    };
    Some(document(StatusCode::OK, kind, text))
}
