//! The constructors of candle-transformers, behind one function.

use candle_core::Result;
use candle_nn::{Func, VarBuilder};
use candle_transformers::models::mobilenetv4;
use firstsight_models::Params;

use super::model::{CandleModel, Family};
use super::names::{self, builder, without_kernel};

/// (B, 3, H, W) to what the last layer sees, (B, F).
pub(super) fn network(model: CandleModel, params: &Params) -> Result<Func<'static>> {
    match *model.family() {
        Family::MobileNetV4 { config, hybrid } => {
            let (config, n_features) = (config(), model.n_features());
            let build = |vb: VarBuilder<'static>| mobilenetv4::mobilenetv4(&config, n_features, vb);
            let lacking = without_kernel(params.device(), |vb| build(vb).map(|_| ()))?;
            build(builder(params, move |name| names::mobilenet_v4(hybrid, &lacking, name)))
        }
    }
}
