//! Vault's command line is that of Go's `flag` package; this turns it into one that clap reads the same way.
//!
//! One dash is as good as two, a value follows `=` or a blank, a boolean takes one only behind `=`, `--` and
//! the first argument that is no flag end the flags. Pure: names in, names out.

/// A flag as far as splitting needs to know it.
#[derive(Debug, Clone, Copy)]
pub struct Flag<'a> {
    pub name: &'a str,
    /// Stands alone for `true`; a value only behind `=`.
    pub is_bool: bool,
}

/// A subcommand's arguments, understood. Deliberately without `Debug`: values may be secrets.
#[expect(missing_debug_implementations, reason = "values may be secrets")]
pub enum Split {
    /// Help was asked for; nothing else counts.
    Help,
    Flags {
        /// Every flag as `--name=value`.
        argv: Vec<String>,
        /// What is no flag: the first argument that is none, and all behind it.
        rest: Vec<String>,
        /// Words about `rest` that name flags and no values.
        warning: Option<String>,
    },
}

/// Splits what stands behind the subcommand. The error names flags, never a value that may be secret.
pub fn split(flags: &[Flag<'_>], args: &[String]) -> Result<Split, String> {
    let before_end = args.iter().take_while(|arg| *arg != "--");
    if before_end.into_iter().any(|arg| is_help(arg)) {
        return Ok(Split::Help);
    }
    let mut argv = Vec::new();
    let mut last_bool = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let Some(body) = flag_body(arg) else {
            let rest: Vec<String> = [arg].into_iter().chain(args).cloned().collect();
            let warning = Some(ignored(flags, &rest, last_bool));
            return Ok(Split::Flags {
                argv,
                rest,
                warning,
            });
        };
        if body.is_empty() {
            break;
        }
        let (name, typed) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        if name.is_empty() || name.starts_with('-') {
            return Err("bad flag syntax: a flag is `-name` or `--name`, with `=value`".to_owned());
        }
        let flag = flags
            .iter()
            .find(|flag| flag.name == name)
            .ok_or_else(|| unknown(name, flags))?;
        last_bool = (flag.is_bool && typed.is_none()).then_some(flag.name);
        let value = match (flag.is_bool, typed) {
            (true, typed) => go_bool(typed.unwrap_or("true"))
                .ok_or_else(|| format!("-{name} is a boolean: true or false, behind `=`"))?
                .to_string(),
            (false, Some(value)) => value.to_owned(),
            (false, None) => match args.next() {
                Some(value) => value.clone(),
                None => return Err(format!("-{name} needs a value: -{name}=...")),
            },
        };
        argv.push(format!("--{name}={value}"));
    }
    let rest: Vec<String> = args.cloned().collect();
    let warning = (!rest.is_empty()).then(|| ignored(flags, &rest, None));
    Ok(Split::Flags {
        argv,
        rest,
        warning,
    })
}

pub fn is_help(arg: &str) -> bool {
    matches!(arg, "-h" | "-help" | "--help" | "--h")
}

/// The spellings of Go's `ParseBool`.
pub fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The nearest of the names, if it is near enough to be meant.
pub fn did_you_mean<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = typed.chars().count().div_ceil(3);
    let with_distance = |name| (strsim::damerau_levenshtein(typed, name), name);
    let (distance, name) = names.into_iter().map(with_distance).min()?;
    (distance <= near).then_some(name)
}

/// `None` for what is no flag: a text without dash, or a lone dash. Empty for `--`.
fn flag_body(arg: &str) -> Option<&str> {
    match arg.strip_prefix('-')? {
        "" => None,
        body => Some(body.strip_prefix('-').unwrap_or(body)),
    }
}

fn unknown(name: &str, flags: &[Flag<'_>]) -> String {
    match did_you_mean(name, flags.iter().map(|flag| flag.name)) {
        Some(near) => format!("unknown flag -{name}: did you mean -{near}?"),
        None => format!("unknown flag -{name}"),
    }
}

/// Names only flags that exist: what else begins with a dash may be a value.
fn ignored(flags: &[Flag<'_>], rest: &[String], last_bool: Option<&str>) -> String {
    let mut text = match rest.len() {
        1 => "an argument that is no flag is ignored".to_owned(),
        count => format!("{count} arguments, from the first that is no flag on, are ignored"),
    };
    let names = rest.iter().filter_map(|arg| {
        let name = flag_body(arg)?.split('=').next()?;
        let flag = flags.iter().find(|flag| flag.name == name)?;
        Some(format!("-{}", flag.name))
    });
    let names: Vec<String> = names.collect();
    if !names.is_empty() {
        text.push_str(&format!(", among them {}", names.join(" ")));
    }
    if let Some(name) = last_bool {
        text.push_str(&format!(
            "; a value for -{name} must follow `=`: -{name}=false"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag<'_>] = &[
        Flag {
            name: "config",
            is_bool: false,
        },
        Flag {
            name: "header",
            is_bool: false,
        },
        Flag {
            name: "exit-after-auth",
            is_bool: true,
        },
    ];

    fn split_words(words: &[&str]) -> Result<Split, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        split(FLAGS, &words)
    }

    fn flags(words: &[&str]) -> (Vec<String>, Vec<String>, Option<String>) {
        match split_words(words) {
            Ok(Split::Flags {
                argv,
                rest,
                warning,
            }) => (argv, rest, warning),
            Ok(Split::Help) => panic!("help: {words:?}"),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn every_spelling_of_a_flag_is_one() {
        for (typed, meant) in [
            (&["-config=x"][..], &["--config=x"][..]),
            (&["--config=x"], &["--config=x"]),
            (&["-config", "x"], &["--config=x"]),
            (&["--config", "x"], &["--config=x"]),
            (&["-config="], &["--config="]),
            (&["-config", ""], &["--config="]),
            (&["-config=a=b"], &["--config=a=b"]),
            (&["-config", "-x"], &["--config=-x"]),
            (&["-config", "--"], &["--config=--"]),
            (
                &["-config=a", "-config", "b"],
                &["--config=a", "--config=b"],
            ),
            (&["-exit-after-auth"], &["--exit-after-auth=true"]),
            (&["--exit-after-auth=F"], &["--exit-after-auth=false"]),
            (
                &["-exit-after-auth", "-config", "x"],
                &["--exit-after-auth=true", "--config=x"],
            ),
            (&["-config=x", "--"], &["--config=x"]),
            (&[], &[]),
        ] {
            let (argv, rest, warning) = flags(typed);
            assert_eq!(argv, meant, "{typed:?}");
            assert!(rest.is_empty() && warning.is_none(), "{typed:?}");
        }
    }

    #[test]
    fn the_first_argument_that_is_no_flag_ends_the_flags() {
        for (typed, argv, rest, words) in [
            (&["x"][..], 0, 1, "an argument that is no flag is ignored"),
            (
                &["-config=x", "y", "-header", "a=canary"],
                1,
                3,
                "3 arguments",
            ),
            (
                &["y", "-header=a=canary", "-config=z"],
                0,
                3,
                "among them -header -config",
            ),
            (
                &["-exit-after-auth", "false", "-config=x"],
                1,
                2,
                "-exit-after-auth=false",
            ),
            (&["--", "-config=x"], 0, 1, "among them -config"),
            (&["-", "-config=x"], 0, 2, "among them -config"),
        ] {
            let (found, left, warning) = flags(typed);
            assert_eq!((found.len(), left.len()), (argv, rest), "{typed:?}");
            let warning = warning.unwrap();
            assert!(warning.contains(words), "{warning}");
            assert!(!warning.contains("canary"), "{warning}");
        }
    }

    #[test]
    fn help_wins_wherever_it_stands() {
        for typed in [
            &["-h"][..],
            &["-help"],
            &["--help"],
            &["-config=x", "y", "-h"],
            &["-no", "-h"],
        ] {
            assert!(matches!(split_words(typed), Ok(Split::Help)), "{typed:?}");
        }
        assert_eq!(flags(&["--", "-h"]).1, ["-h"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (typed, message) in [
            (
                &["-cofnig=x"][..],
                "unknown flag -cofnig: did you mean -config?",
            ),
            (&["-zzz"], "unknown flag -zzz"),
            (&["-c", "x"], "unknown flag -c"),
            (
                &["-Config=x"],
                "unknown flag -Config: did you mean -config?",
            ),
            (&["-config"], "-config needs a value: -config=..."),
            (
                &["-exit-after-auth=maybe"],
                "-exit-after-auth is a boolean: true or false, behind `=`",
            ),
            (
                &["-exit-after-auth="],
                "-exit-after-auth is a boolean: true or false, behind `=`",
            ),
            (
                &["---config=x"],
                "bad flag syntax: a flag is `-name` or `--name`, with `=value`",
            ),
            (
                &["-=x"],
                "bad flag syntax: a flag is `-name` or `--name`, with `=value`",
            ),
        ] {
            let error = split_words(typed).err();
            assert_eq!(error.as_deref(), Some(message), "{typed:?}");
        }
    }

    #[test]
    fn booleans_are_spelt_as_in_go() {
        for text in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(go_bool(text), Some(true), "{text}");
        }
        for text in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(go_bool(text), Some(false), "{text}");
        }
        for text in ["", "yes", "on", "tRUE", "2", " true"] {
            assert_eq!(go_bool(text), None, "{text}");
        }
    }
}
