//! The `skylark` binary.

fn main() -> std::process::ExitCode {
    skylark_broker::cli::main()
}
