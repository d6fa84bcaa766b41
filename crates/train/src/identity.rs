//! The settings that two trainings must share.

use serde::{Deserialize, Serialize};

/// What a training depends on, setting by setting: a checkpoint is resumed exactly only where all are equal.
///
/// ```
/// use firstsight_train::Identity;
///
/// let found = Identity::new().with("network", "mlp").with("batch size", 16);
/// let asked = Identity::new().with("network", "mlp").with("batch size", 32);
/// let differences = found.differences(&asked);
/// assert_eq!(differences[0].to_string(), "batch size: 16 there, 32 asked for");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Identity(Vec<(String, String)>);

/// Checkpoints before version 3 have one text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Text(String),
    Settings(Vec<(String, String)>),
}

impl From<Stored> for Identity {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Text(text) => text.as_str().into(),
            Stored::Settings(settings) => Self(settings),
        }
    }
}

impl From<&str> for Identity {
    /// One setting, called `training`.
    fn from(text: &str) -> Self {
        Self::new().with("training", text)
    }
}

impl Identity {
    /// No setting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a setting by the name that people call it by.
    #[must_use]
    pub fn with(mut self, setting: &str, value: impl ToString) -> Self {
        self.0.push((setting.to_owned(), value.to_string()));
        self
    }

    /// The value of a setting.
    pub fn get(&self, setting: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == setting).map(|(_, value)| value.as_str())
    }

    /// The settings of this training that are others in `asked`, in the order of `asked`. Settings that `asked` does not have
    /// are not compared. Two that have no setting in common differ as a whole.
    pub fn differences(&self, asked: &Self) -> Vec<Difference> {
        if !asked.0.iter().any(|(setting, _)| self.get(setting).is_some()) {
            let (found, asked) = (self.to_string(), asked.to_string());
            return vec![Difference { setting: "training".to_owned(), found, asked }];
        }
        let differs = |(setting, asked): &(String, String)| {
            let found = self.get(setting);
            (found != Some(asked.as_str())).then(|| Difference {
                setting: setting.clone(),
                found: found.unwrap_or("not stated").to_owned(),
                asked: asked.clone(),
            })
        };
        asked.0.iter().filter_map(differs).collect()
    }

    /// [`differences`](Self::differences), and the settings that `asked` does not have.
    ///
    /// ```
    /// use firstsight_train::Identity;
    ///
    /// let found = Identity::new().with("network", "mlp").with("epochs", 6);
    /// let differences = found.all_differences(&Identity::new().with("network", "mlp"));
    /// assert_eq!(differences[0].to_string(), "epochs: 6 there, none asked for");
    /// ```
    pub fn all_differences(&self, asked: &Self) -> Vec<Difference> {
        let dropped = self.0.iter().filter(|(setting, _)| asked.get(setting).is_none());
        let dropped = dropped.map(|(setting, found)| Difference {
            setting: setting.clone(),
            found: found.clone(),
            asked: "none".to_owned(),
        });
        self.differences(asked).into_iter().chain(dropped).collect()
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let settings: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        f.write_str(&settings.join(", "))
    }
}

/// A setting in which two trainings differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The setting's name.
    pub setting: String,
    /// Its value in the checkpoint.
    pub found: String,
    /// Its value in the training that asks for it.
    pub asked: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} there, {} asked for", self.setting, self.found, self.asked)
    }
}
