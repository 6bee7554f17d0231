//! The engine of modules in a node that is built with the feature `wasm-jit`: a compiler.
//!
//! It takes the modules that the interpreter takes, and says the same of them; what is the same work is fewer or more fuel,
//! since each counts its own instructions. WASI is the same code for both.
//!
//! **The hard case** is the wall around the worker: code that was compiled must be executable, and the compiler looks at
//! what a stranger wrote. So it compiles inside the walls, where pages may become executable that can't be written to
//! any more, and nothing else is allowed that the interpreter isn't. Memory is not reserved ahead and not guarded by
//! pages, which would count against the limit on addresses: each access is checked, as by the interpreter.

use wasi_common::I32Exit;
use wasmi_wasi::WasiCtx;
use wasmtime::{Config, Engine, Error, Linker, Module, ResourceLimiter, Store, Trap};

use super::bounds::{Bounds, EACH_MAX};
use super::engine::{LoadError, Ran, Rest, WASI};

/// What is said of it to people.
pub(super) const NAME: &str = "wasmtime 36, WASI preview 1";

/// What it needs of the machine beside a process: pages of code.
pub(super) const NEEDS_CODE: bool = true;

/// Memory that it takes beside the module's own: 512 MiB, most of it while it compiles.
pub(super) const BESIDE_BYTES: u64 = 512 << 20;

/// What a memory may grow by without being moved.
const GROWTH_BYTES: u64 = 1 << 20;

/// What it keeps for a module.
struct State {
    wasi: WasiCtx,
    bounds: Bounds,
}

/// Runs a module to its end.
pub(super) fn run(bytes: &[u8], wasi: WasiCtx, bounds: Bounds, fuel: u64) -> Result<Ran, LoadError> {
    let setup = |error: Error| LoadError::Wasi { problem: format!("{error:#}") };
    let engine = Engine::new(&config()).map_err(setup)?;
    let module = compile(&engine, bytes)?;
    let mut store = Store::new(&engine, State { wasi, bounds });
    store.limiter(|state| &mut state.bounds);
    store.set_fuel(fuel).map_err(setup)?;
    let mut linker = Linker::new(&engine);
    wasi_common::sync::add_to_linker(&mut linker, |state: &mut State| &mut state.wasi).map_err(setup)?;
    // WASI's own takes codes up to 125 only, but a command may exit with any.
    linker.allow_shadowing(true);
    linker
        .func_wrap(WASI, "proc_exit", |code: i32| -> Result<(), Error> { Err(I32Exit(code).into()) })
        .map_err(setup)?;
    let rest = match linker.instantiate_pre(&module) {
        Err(error) => Rest::Unlinked(format!("{error:#}")),
        Ok(linked) => {
            let ran = linked.instantiate(&mut store).and_then(|instance| {
                let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
                start.call(&mut store, ())
            });
            ran.map_or_else(|error| rest(&error), |()| Rest::Returned)
        }
    };
    let left = store.get_fuel().unwrap_or(fuel).min(fuel);
    Ok(Ran { rest, used: fuel - left, bounds: store.data().bounds })
}

/// What the interpreter can do, and no more: a module must not run on one node and be refused by another.
fn config() -> Config {
    let mut config = Config::new();
    config.consume_fuel(true);
    config.wasm_memory64(false).wasm_relaxed_simd(false).wasm_simd(false);
    config.memory_reservation(0).memory_guard_size(0).memory_reservation_for_growth(GROWTH_BYTES);
    // A memory's beginning is copied, not mapped from a file of no name, which the walls forbid.
    config.memory_init_cow(false);
    config
}

fn compile(engine: &Engine, bytes: &[u8]) -> Result<Module, LoadError> {
    let module = Module::new(engine, bytes).map_err(|error| LoadError::invalid(&format!("{error:#}")))?;
    if let Some(import) = module.imports().find(|import| import.module() != WASI) {
        return Err(LoadError::Import { module: import.module().to_owned(), name: import.name().to_owned() });
    }
    match module.get_export("_start") {
        Some(start) if start.func().is_some() => Ok(module),
        Some(_) | None => Err(LoadError::NoStart),
    }
}

fn rest(error: &Error) -> Rest {
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return Rest::Exited(*code);
    }
    match error.downcast_ref() {
        Some(Trap::OutOfFuel) => Rest::OutOfFuel,
        Some(trap) => Rest::Trapped(trap.to_string()),
        None => Rest::Trapped(format!("{error:#}")),
    }
}

impl ResourceLimiter for Bounds {
    fn memory_growing(&mut self, current: usize, wanted: usize, _most: Option<usize>) -> Result<bool, Error> {
        Ok(self.grow_memory(current, wanted))
    }

    fn table_growing(&mut self, current: usize, wanted: usize, _most: Option<usize>) -> Result<bool, Error> {
        Ok(self.grow_table(current, wanted))
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        EACH_MAX
    }

    fn memories(&self) -> usize {
        EACH_MAX
    }
}
