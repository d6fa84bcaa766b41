//! Where trainings are logged to, as it is typed.

use std::str::FromStr;

use crate::{Error, MlflowServer};

/// Where a training is logged to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Event files in the folder `tensorboard` of the run.
    TensorBoard,
    /// An MLflow server.
    Mlflow(MlflowServer),
}

impl FromStr for LogTarget {
    type Err = Error;

    /// `tensorboard` or `mlflow:URL`.
    ///
    /// # Errors
    ///
    /// [`Error::Target`].
    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "tensorboard" {
            return Ok(Self::TensorBoard);
        }
        let url = text.strip_prefix("mlflow:").map(|url| url.trim_end_matches('/')).unwrap_or_default();
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).unwrap_or_default();
        // A password in an address would be printed.
        match host.is_empty() || host.contains('@') || host.contains(char::is_whitespace) {
            true => Err(Error::Target(text.to_owned())),
            false => Ok(Self::Mlflow(MlflowServer::new(url))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_typed() {
        assert_eq!("tensorboard".parse::<LogTarget>().unwrap(), LogTarget::TensorBoard);
        let LogTarget::Mlflow(server) = "mlflow:http://127.0.0.1:5000/".parse().unwrap() else { panic!() };
        assert_eq!(server.url, "http://127.0.0.1:5000");
        for wrong in [
            "",
            "wandb",
            "mlflow",
            "mlflow:",
            "mlflow:file:///x",
            "mlflow:http://",
            "mlflow:http://me:pw@host",
        ] {
            assert!(wrong.parse::<LogTarget>().is_err(), "{wrong}");
        }
    }
}
