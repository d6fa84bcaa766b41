//! 3. Classic networks: LeNet-5 and AlexNet as tables, LeNet-5 on digits, depth and the residual connection.

mod depth;
mod lenet;
mod tables;

use firstsight_report::Report;
use serde::Serialize;

use super::digits::Digits;
use crate::{Context, Result, Settings};

/// `metrics.json`, `networks`.
#[derive(Serialize)]
pub(super) struct NetworkMetrics {
    digits: String,
    lenet5: lenet::LenetMetrics,
    depth: Option<depth::DepthMetrics>,
}

/// Writes the section. Returns the figures and whether a training was interrupted.
pub(super) fn write(
    args: &Settings,
    context: &Context<'_>,
    report: &mut Report,
) -> Result<(NetworkMetrics, bool)> {
    let digits = Digits::find(context)?;
    let section = report.section(Some("3"), "Classic networks");
    section.text(
        "Two networks made the pattern that most others follow: convolutions that see more and more of the picture while \
         pooling makes their maps smaller, then dense layers. The tables below are printed from the models of this \
         project, which are built from the same tables.",
    );
    tables::lenet(section)?;
    tables::alexnet(section)?;
    let (lenet5, interrupted) = lenet::write(section, &digits, args.quick, &args.out, args.resume, context)?;
    let (depth, interrupted) = match interrupted {
        true => (None, true),
        false => depth::write(section, &digits, args.quick, context)
            .map(|(depth, stopped)| (Some(depth), stopped))?,
    };
    if interrupted {
        section.note("The training was interrupted.");
    }
    Ok((NetworkMetrics { digits: digits.source, lenet5, depth }, interrupted))
}
