//! A guard around the libraries that read files, so that a file on which one panics is an error.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread is caught and reported as an error.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Calls a library. Its panic becomes the error that `broken` makes of the reason, without a message on the terminal.
pub(crate) fn guarded<T, E>(
    read: impl FnOnce() -> Result<T, E>,
    broken: impl FnOnce(String) -> E,
) -> Result<T, E> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                before(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    // What it leaves half done is dropped with it.
    let result = catch_unwind(AssertUnwindSafe(read));
    GUARDED.set(outer);
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Err(broken(format!("the decoder broke off: {text}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_one_file() {
        let broken: Result<u8, String> = guarded(|| panic!("index out of bounds"), |reason| reason);
        assert_eq!(broken, Err("the decoder broke off: index out of bounds".to_owned()));
        assert_eq!(guarded(|| Ok(3), |reason| reason), Ok(3));
        assert!(!GUARDED.get());
    }
}
