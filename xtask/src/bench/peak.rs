//! The processor's peak: fused multiply-adds per second, and bytes per second to and from memory.

use std::hint::black_box;
use std::time::Instant;

use serde::Serialize;

/// Best of this many attempts.
const ATTEMPTS: usize = 7;

/// Measured on all of a number of threads at once.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Peak {
    /// Float32 operations in fused multiply-adds, two each, in 10⁹ a second.
    pub(crate) gflops: f64,
    /// Bytes of a triad, a\[i\] = b\[i\] + s·c\[i\], three float32 an element, in 10⁹ a second.
    pub(crate) gigabytes: f64,
}

impl Peak {
    pub(crate) fn measure(threads: usize) -> Self {
        Self { gflops: multiply_adds(threads), gigabytes: triad(threads) }
    }
}

fn multiply_adds(threads: usize) -> f64 {
    const STEPS: u64 = 4_000_000;
    let run = || {
        let started = Instant::now();
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(|| widest(STEPS))).collect();
            // A thread that panicked did no work; its zero can only lower the figure.
            let flops: f64 = handles.into_iter().map(|handle| handle.join().unwrap_or(0.0)).sum();
            flops / started.elapsed().as_secs_f64() / 1e9
        })
    };
    (0..ATTEMPTS).map(|_| run()).fold(0.0, f64::max)
}

/// Runs multiply-adds on the widest vectors that the processor has; gives the number of operations.
fn widest(steps: u64) -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512F.
            return unsafe { x86::avx512(steps) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has AVX2 and FMA.
            return unsafe { x86::avx2(steps) };
        }
    }
    plain(steps)
}

/// Independent chains, enough of them to hide an instruction's latency.
const CHAINS: usize = 12;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps, _mm512_fmadd_ps, _mm512_set1_ps};
    use std::hint::black_box;

    use super::CHAINS;

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512(steps: u64) -> f64 {
        let (factor, term) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
        let mut sums = [_mm512_set1_ps(1.0); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, factor, term);
            }
        }
        black_box(sums);
        2.0 * steps as f64 * (CHAINS * 16) as f64
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(steps: u64) -> f64 {
        let (factor, term) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
        let mut sums = [_mm256_set1_ps(1.0); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, factor, term);
            }
        }
        black_box(sums);
        2.0 * steps as f64 * (CHAINS * 8) as f64
    }
}

/// The compiler's own choice. Where the target has no fused instruction, `f32::mul_add` would be a slow call.
fn plain(steps: u64) -> f64 {
    const LANES: usize = 4;
    let (factor, term) = ([black_box(0.999f32); LANES], [black_box(0.001f32); LANES]);
    let mut sums = [[1f32; LANES]; CHAINS];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = std::array::from_fn(|i| {
                if cfg!(target_arch = "aarch64") {
                    sum[i].mul_add(factor[i], term[i])
                } else {
                    sum[i] * factor[i] + term[i]
                }
            });
        }
    }
    black_box(sums);
    2.0 * steps as f64 * (CHAINS * LANES) as f64
}

fn triad(threads: usize) -> f64 {
    /// Values a thread and array: 64 MiB, more than caches hold.
    const LEN: usize = 16 << 20;
    let mut arrays: Vec<[Vec<f32>; 3]> =
        (0..threads).map(|_| [vec![0.0; LEN], vec![1.0; LEN], vec![2.0; LEN]]).collect();
    let scale = black_box(3f32);
    let mut run = || {
        let started = Instant::now();
        std::thread::scope(|scope| {
            for [a, b, c] in &mut arrays {
                scope.spawn(move || {
                    for ((a, b), c) in a.iter_mut().zip(&*b).zip(&*c) {
                        *a = b + scale * c;
                    }
                });
            }
        });
        (threads * LEN * 3 * size_of::<f32>()) as f64 / started.elapsed().as_secs_f64() / 1e9
    };
    (0..ATTEMPTS).map(|_| run()).fold(0.0, f64::max)
}
