//! The engine of modules that is always there: an interpreter, which needs no page of the machine's code.

use wasmi::{Config, Engine, Linker, Module, ResourceLimiter, Store, TrapCode};
use wasmi_core::LimiterError;
use wasmi_wasi::WasiCtx;

use super::bounds::{Bounds, EACH_MAX};
use super::engine::{LoadError, Ran, Rest, WASI};

/// What is said of it to people.
pub(super) const NAME: &str = "wasmi 2, WASI preview 1";

/// What it needs of the machine beside a process: nothing.
pub(super) const NEEDS_CODE: bool = false;

/// Memory that it takes beside the module's own: 64 MiB. A worker that runs a hello has 12 MiB.
pub(super) const BESIDE_BYTES: u64 = 64 << 20;

/// What it keeps for a module.
struct State {
    wasi: WasiCtx,
    bounds: Bounds,
}

/// Runs a module to its end.
pub(super) fn run(bytes: &[u8], wasi: WasiCtx, bounds: Bounds, fuel: u64) -> Result<Ran, LoadError> {
    let setup = |error: &dyn std::fmt::Display| LoadError::Wasi { problem: error.to_string() };
    let mut config = Config::default();
    config.consume_fuel(true);
    let engine = Engine::new(&config);
    let module = compile(&engine, bytes)?;
    let mut store = Store::new(&engine, State { wasi, bounds });
    store.limiter(|state| &mut state.bounds);
    store.set_fuel(fuel).map_err(|error| setup(&error))?;
    let mut linker = Linker::new(&engine);
    wasmi_wasi::add_to_linker(&mut linker, |state: &mut State| &mut state.wasi).map_err(|error| setup(&error))?;
    // WASI's own takes codes up to 125 only, but a command may exit with any.
    linker.allow_shadowing(true);
    let exit = |code: i32| -> Result<(), wasmi::Error> { Err(wasmi::Error::i32_exit(code)) };
    linker.func_wrap(WASI, "proc_exit", exit).map_err(|error| setup(&error))?;
    let ran = linker.instantiate_and_start(&mut store, &module).and_then(|instance| {
        let start = instance.get_typed_func::<(), ()>(&store, "_start")?;
        start.call(&mut store, ())
    });
    let left = store.get_fuel().unwrap_or(fuel).min(fuel);
    Ok(Ran {
        rest: ran.map_or_else(|error| rest(&error), |()| Rest::Returned),
        used: fuel - left,
        bounds: store.data().bounds,
    })
}

fn compile(engine: &Engine, bytes: &[u8]) -> Result<Module, LoadError> {
    let module = Module::new(engine, bytes).map_err(|error| LoadError::invalid(&error))?;
    if let Some(import) = module.imports().find(|import| import.module() != WASI) {
        return Err(LoadError::Import { module: import.module().to_owned(), name: import.name().to_owned() });
    }
    match module.get_export("_start") {
        Some(start) if start.func().is_some() => Ok(module),
        Some(_) | None => Err(LoadError::NoStart),
    }
}

fn rest(error: &wasmi::Error) -> Rest {
    use wasmi::errors::ErrorKind;
    if let Some(code) = error.i32_exit_status() {
        return Rest::Exited(code);
    }
    let is_of_link = matches!(error.kind(), ErrorKind::Linker(_) | ErrorKind::Func(_) | ErrorKind::Instantiation(_));
    match error.as_trap_code() {
        Some(TrapCode::OutOfFuel) => Rest::OutOfFuel,
        None if is_of_link => Rest::Unlinked(error.to_string()),
        Some(_) | None => Rest::Trapped(error.to_string()),
    }
}

impl ResourceLimiter for Bounds {
    fn memory_growing(&mut self, current: usize, wanted: usize, _most: Option<usize>) -> Result<bool, LimiterError> {
        Ok(self.grow_memory(current, wanted))
    }

    fn table_growing(&mut self, current: usize, wanted: usize, _most: Option<usize>) -> Result<bool, LimiterError> {
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
