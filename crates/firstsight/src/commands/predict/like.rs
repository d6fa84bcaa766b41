//! Images that are like others: a search without training.

use std::path::PathBuf;

use anyhow::Result;
use firstsight_data::{OnError, Sample, scan_images};
use firstsight_transfer::{Classifier, Likeness};
use serde::Serialize;

use super::Args;
use crate::commands::embed::embed;
use crate::context::Context;

/// A row of `predict --like --json`.
#[derive(Serialize)]
struct Similar {
    image: PathBuf,
    /// The largest cosine of its features with those of a photo that was named.
    similarity: f32,
}

pub(super) fn run(
    args: &Args,
    classifier: &Classifier,
    images: Vec<Sample>,
    context: &Context,
) -> Result<()> {
    let mut queries = Vec::new();
    // A photo that is asked for must be readable.
    let photos = scan_images(&args.like)?.samples;
    embed(classifier, photos, OnError::Skip, context, |row| {
        queries.extend(row.features.as_ref().ok().cloned());
        Ok(())
    })??;
    let likeness = Likeness::new(queries);

    let mut best: Vec<Similar> = Vec::new();
    let on_error = args.on_error.policy(OnError::Skip);
    let complete = embed(classifier, images, on_error, context, |row| {
        let Ok(features) = &row.features else { return Ok(()) };
        let similarity = likeness.of(features);
        // The first of equals stays first.
        let place = best.partition_point(|other| other.similarity >= similarity);
        if place < args.answers.top {
            best.insert(place, Similar { image: row.image.clone(), similarity });
            best.truncate(args.answers.top);
        }
        Ok(())
    })?;
    if args.json {
        out!("{}", serde_json::to_string_pretty(&best)?)?;
    } else {
        for Similar { image, similarity } in &best {
            out!("{similarity:.4}  {}", image.display())?;
        }
    }
    complete
}
