//! Functions of fused multiplications and additions.

/// Wraps the steps of a function, compiled for a processor with fused multiply-add where there is one: elsewhere that
/// operation is a slow function call, with the same result.
macro_rules! fused {
    ($(#[$doc:meta])* $name:ident, $steps:ident, $plain:expr, $other:expr) => {
        $(#[$doc])*
        pub(crate) fn $name(x: f64) -> f64 {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn fast(x: f64) -> f64 {
                $steps(x)
            }
            let plain: fn(f64) -> bool = $plain;
            if !plain(x) {
                let other: fn(f64) -> f64 = $other;
                return other(x);
            }
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                // SAFETY: The processor has the instructions that `fast` is compiled for.
                return unsafe { fast(x) };
            }
            $steps(x)
        }
    };
}

pub(super) use fused;
