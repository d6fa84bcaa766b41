use candle_core::{Device, Result, Tensor, Var};
use firstsight_ops::{Activation, Conv2dConfig, Padding2d, conv2d};
use std::time::Instant;
fn main() -> Result<()> {
    let d = Device::Cpu;
    // (name, batch, cin, h, cout, k, stride, pad, groups)
    let list = [
        ("lenet c1", 128, 1, 32, 6, 5, 1, 0, 1),
        ("lenet c3", 128, 6, 14, 16, 5, 1, 0, 1),
        ("alex c2", 16, 96, 27, 256, 5, 1, 2, 1),
        ("alex c3", 16, 256, 13, 384, 3, 1, 1, 1),
        ("mb stem", 16, 3, 224, 32, 3, 2, 1, 1),
        ("mb 32-16", 16, 32, 112, 16, 1, 1, 0, 1),
        ("mb 16-96", 16, 16, 112, 96, 1, 1, 0, 1),
        ("mb 96-24", 16, 96, 56, 24, 1, 1, 0, 1),
        ("mb 24-144", 16, 24, 56, 144, 1, 1, 0, 1),
        ("mb 64-384", 16, 64, 14, 384, 1, 1, 0, 1),
        ("mb 960-160", 16, 960, 7, 160, 1, 1, 0, 1),
        ("mb 320-1280", 16, 320, 7, 1280, 1, 1, 0, 1),
        ("xc conv2", 16, 32, 74, 64, 3, 1, 0, 1),
        ("xc 128-128", 16, 128, 72, 128, 1, 1, 0, 1),
        ("xc 728", 16, 728, 9, 728, 1, 1, 0, 1),
        ("xc skip", 16, 128, 36, 256, 1, 2, 0, 1),
        ("dw 96 s2", 16, 96, 112, 96, 3, 2, 1, 96),
        ("dw 144", 16, 144, 56, 144, 3, 1, 1, 144),
        ("dw 728", 16, 728, 9, 728, 3, 1, 1, 728),
        ("dw 960", 16, 960, 7, 960, 3, 1, 1, 960),
    ];
    let filter = std::env::args().nth(1).unwrap_or_default();
    for (name, b, ci, h, co, k, s, p, g) in list {
        if !name.contains(&filter) {
            continue;
        }
        let x = Var::from_tensor(&Tensor::randn(0f32, 1., (b, ci, h, h), &d)?)?;
        let w = Var::from_tensor(&Tensor::randn(0f32, 1., (co, ci / g, k, k), &d)?)?;
        let config =
            Conv2dConfig { stride: (s, s), padding: Padding2d::symmetric(p, p), dilation: (1, 1), groups: g };
        let (mut f, mut bw) = (vec![], vec![]);
        let mut macs = 0.0;
        for _ in 0..7 {
            let t = Instant::now();
            let y = conv2d(&x, &w, None, &config, Activation::Identity)?;
            f.push(t.elapsed().as_secs_f64() * 1e3);
            macs = (y.elem_count() * ci / g * k * k) as f64;
            let s = y.sum_all()?;
            let t = Instant::now();
            let _ = s.backward()?;
            bw.push(t.elapsed().as_secs_f64() * 1e3);
        }
        f.sort_by(f64::total_cmp);
        bw.sort_by(f64::total_cmp);
        let gf = |ms: f64, n: f64| 2.0 * n * macs / ms / 1e6;
        println!(
            "{name:12} fwd {:7.2} ms {:6.1} GF/s   bwd {:7.2} ms {:6.1} GF/s",
            f[3],
            gf(f[3], 1.0),
            bw[3],
            gf(bw[3], 2.0)
        );
    }
    Ok(())
}
