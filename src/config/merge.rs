//! Several files are one configuration: lists are joined, blocks replaced whole, single values overridden.

use super::file::{File, Log, Templates};
use super::findings::{At, Given};

/// The files in their order as one, and the blocks that a later file replaced.
pub(super) fn merge(files: impl IntoIterator<Item = File>) -> (File, Vec<At>) {
    let mut replaced = Vec::new();
    let merged = files.into_iter().fold(File::default(), |base, later| {
        join(base, later, &mut replaced)
    });
    (merged, replaced)
}

fn join(base: File, later: File, replaced: &mut Vec<At>) -> File {
    let mut listeners = base.listeners;
    listeners.extend(later.listeners);
    File {
        vault: block(base.vault, later.vault, |block| block.whole, replaced),
        auto_auth: block(
            base.auto_auth,
            later.auto_auth,
            |block| block.whole,
            replaced,
        ),
        api_proxy: api_proxy(base.api_proxy, later.api_proxy, replaced),
        cache: block(base.cache, later.cache, |block| block.whole, replaced),
        listeners,
        templates: templates(base.templates, later.templates, replaced),
        background: block(
            base.background,
            later.background,
            |block| block.whole,
            replaced,
        ),
        log: Log {
            level: filled(base.log.level, later.log.level),
            format: filled(base.log.format, later.log.format),
            file: filled(base.log.file, later.log.file),
            rotation: [base.log.rotation, later.log.rotation].concat(),
        },
        pid_file: filled(base.pid_file, later.pid_file),
        exit_after_auth: either(base.exit_after_auth, later.exit_after_auth),
        shutdown_timeout: later.shutdown_timeout.or(base.shutdown_timeout),
        startup_wait: later.startup_wait.or(base.startup_wait),
        worker_threads: later.worker_threads.or(base.worker_threads),
        telemetry: block(base.telemetry, later.telemetry, |at| *at, replaced),
        circuit_breaker: block(
            base.circuit_breaker,
            later.circuit_breaker,
            |at| *at,
            replaced,
        ),
    }
}

fn templates(base: Templates, later: Templates, replaced: &mut Vec<At>) -> Templates {
    let (mut files, mut env) = (base.files, base.env);
    files.extend(later.files);
    env.extend(later.env);
    Templates {
        files,
        env,
        exec: block(base.exec, later.exec, |exec| exec.whole, replaced),
        config: block(base.config, later.config, |at| *at, replaced),
    }
}

/// The one that `cache` stands for is no block of its own: with it goes nothing else of that `cache`.
fn api_proxy(
    base: Option<super::file::ApiProxy>,
    later: Option<super::file::ApiProxy>,
    replaced: &mut Vec<At>,
) -> Option<super::file::ApiProxy> {
    let base_is_block = base.as_ref().is_some_and(|base| !base.from_cache);
    let mut gone = Vec::new();
    let kept = block(base, later, |block| block.whole, &mut gone);
    if base_is_block {
        replaced.append(&mut gone);
    }
    kept
}

fn block<T>(
    base: Option<T>,
    later: Option<T>,
    whole: impl Fn(&T) -> At,
    replaced: &mut Vec<At>,
) -> Option<T> {
    if let (Some(base), Some(_)) = (&base, &later) {
        replaced.push(whole(base));
    }
    later.or(base)
}

fn filled(base: Option<Given<String>>, later: Option<Given<String>>) -> Option<Given<String>> {
    later.filter(|given| !given.value.is_empty()).or(base)
}

fn either(base: Option<Given<bool>>, later: Option<Given<bool>>) -> Option<Given<bool>> {
    base.filter(|given| given.value).or(later)
}
