//! On macOS, what a module takes from the Python that loads it is left open.

fn main() {
    pyo3_build_config::add_extension_module_link_args();
}
