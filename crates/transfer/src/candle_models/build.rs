//! The constructors of candle-transformers, behind one function.

use candle_core::{Error, Result, Tensor};
use candle_nn::{Activation, Func, Module as _, VarBuilder};
use candle_transformers::models::{convnext, dinov2, efficientnet, mobilenetv4, vit};
use firstsight_models::Params;

use super::model::{CandleModel, Family, Vision};
use super::names::{self, builder, without_kernel};

/// (B, 3, H, W) to what the last layer sees, (B, F).
pub(super) fn network(model: CandleModel, params: &Params) -> Result<Func<'static>> {
    match *model.family() {
        Family::ResNet { build } => build(builder(params, names::resnet)),
        Family::EfficientNet { blocks } => {
            let n_features = model.n_features();
            let network =
                efficientnet::EfficientNet::new(builder(params, names::efficientnet), blocks(), n_features)?;
            Ok(Func::new(move |images| network.forward(images)))
        }
        Family::MobileNetV4 { config, hybrid } => {
            let (config, n_features) = (config(), model.n_features());
            let build = |vb: VarBuilder<'static>| mobilenetv4::mobilenetv4(&config, n_features, vb);
            let lacking = without_kernel(params.device(), |vb| build(vb).map(|_| ()))?;
            build(builder(params, move |name| names::mobilenet_v4(hybrid, &lacking, name)))
        }
        Family::ConvNeXt { config, second } => {
            let vb = builder(params, move |name| names::convnext(second, name));
            convnext::convnext(&config(), model.n_features(), vb)
        }
        Family::Vit(vision) => vit(model, vision, params),
        Family::DinoV2(vision) => dino_v2(vision, params),
    }
}

fn vit(model: CandleModel, vision: Vision, params: &Params) -> Result<Func<'static>> {
    let Vision { width, depth, heads } = vision;
    let side = model.input().input_size.1;
    let config = vit::Config {
        hidden_size: width,
        num_hidden_layers: depth,
        num_attention_heads: heads,
        intermediate_size: 4 * width,
        hidden_act: Activation::Gelu,
        // timm's.
        layer_norm_eps: 1e-6,
        image_size: side,
        patch_size: 16,
        num_channels: 3,
        qkv_bias: true,
    };
    let network = vit::Model::new(&config, width, builder(params, names::vit))?;
    Ok(Func::new(move |images: &Tensor| {
        let (_, _, height, found) = images.dims4()?;
        if (height, found) != (side, side) {
            return Err(Error::Msg(format!("{model} takes {side}x{side}, found {height}x{found}")));
        }
        network.forward(images)
    }))
}

fn dino_v2(vision: Vision, params: &Params) -> Result<Func<'static>> {
    let Vision { width, depth, heads } = vision;
    let vb = builder(params, names::dino_v2);
    let network = dinov2::DinoVisionTransformer::new(vb, depth, width, heads)?;
    // Its last layer sees the class token, then the mean of the others; the first rows of the identity pass the class
    // token on.
    Ok(Func::new(move |images: &Tensor| network.forward(images)?.narrow(1, 0, width)))
}
