//! Where trainings are logged to.

use anyhow::Result;
use firstsight_log::{Credentials, Ending, LogTarget, TrainingLog};
use firstsight_transfer::Interrupted;

use crate::hub;

#[derive(Debug, clap::Args)]
pub(crate) struct LogArgs {
    /// Also log each training to TensorBoard's event files, in RUN/tensorboard (of `tune` in DIR/logs/NUMBER), or to an MLflow
    /// server; may be given for both
    #[arg(long, value_name = "tensorboard or mlflow:URL")]
    log: Vec<LogTarget>,
}

impl LogArgs {
    /// The places, as MLflow's variables set them: MLFLOW_EXPERIMENT_NAME, and MLFLOW_TRACKING_TOKEN or MLFLOW_TRACKING_USERNAME
    /// and MLFLOW_TRACKING_PASSWORD; the proxies' variables and those of certificate authorities as for the hub.
    pub(crate) fn targets(&self) -> Result<Vec<LogTarget>> {
        let mut targets = self.log.clone();
        for target in &mut targets {
            let LogTarget::Mlflow(server) = target else { continue };
            let variable = |name: &str| hub::variable(&format!("MLFLOW_{name}"));
            if let Some(experiment) = variable("EXPERIMENT_NAME") {
                server.experiment = experiment;
            }
            let password = || {
                let name = variable("TRACKING_USERNAME")?;
                Some(Credentials::Password(name, variable("TRACKING_PASSWORD").unwrap_or_default()))
            };
            server.credentials = variable("TRACKING_TOKEN").map(Credentials::Token).or_else(password);
            server.proxy = hub::proxy(&server.url);
            if server.url.starts_with("https:") {
                server.authorities = hub::authorities()?;
            }
        }
        Ok(targets)
    }
}

/// A setting as logs have it.
pub(crate) fn setting(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

/// Does work that is logged, and logs how it ended.
pub(crate) fn observed<T>(
    mut log: TrainingLog<'_>,
    work: impl FnOnce(&mut TrainingLog<'_>) -> Result<T>,
) -> Result<T> {
    let result = work(&mut log);
    log.end(match &result {
        Ok(_) => Ending::Finished,
        Err(error) if error.chain().any(is_interrupted) => Ending::Interrupted,
        Err(_) => Ending::Failed,
    });
    result
}

fn is_interrupted(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<Interrupted>()
        || matches!(cause.downcast_ref(), Some(firstsight_transfer::Error::Interrupted(_)))
}
