//! What the compiler refuses, as answers. Must not know how a change is made.

use crate::{
    api::{self, ApiError, ErrorKind},
    compile::CompileError,
    config::Places,
};

/// What the tables have no room for, beside what they hold now.
pub fn too_large(e: CompileError) -> ApiError {
    all_of(&[e], &Places::default())
}

/// Each refusal at its place, as other problems of a document. What has none is told in one line.
pub fn all_of(errors: &[CompileError], places: &Places) -> ApiError {
    let problems = api::refused(errors, places);
    if problems.iter().any(|p| p.file.is_some()) {
        return ApiError::invalid(problems);
    }
    let text = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let help = "nothing was changed; make the policy smaller and apply it again";
    ApiError::new(ErrorKind::Invalid, text, help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compile,
        config::{self, Source},
    };

    #[test]
    fn every_refusal_is_answered_at_its_place_d4() {
        let mut text = String::from("services:\n");
        for s in ["shop", "cart"] {
            text.push_str(&format!(
                "  {s}:\n    listen: [\"198.18.1.{n}:80\"]\n    instances: [{{ address: \"198.18.2.{n}:80\", version: \"1\" }}]\n    stable: {{ version: \"1\" }}\n",
                n = s.len() + usize::from(s == "cart")
            ));
        }
        text.push_str("cohorts:\n");
        for c in 0..20 {
            text.push_str(&format!("  c{c}: {{ sources: [\"10.0.0.{c}\"] }}\n"));
        }
        text.push_str("routes:\n");
        let all: Vec<String> = (0..10).map(|c| format!("{{ any: [c{c}, c{}] }}", c + 10)).collect();
        for s in ["shop", "cart"] {
            let when = format!("{{ all: [{}] }}", all.join(", "));
            text.push_str(&format!(
                "  - {{ name: {s}-wide, service: {s}, when: {when}, to: {{ version: \"1\" }} }}\n"
            ));
        }
        let loaded = config::load(&[Source::new("p.yaml", &*text)]).unwrap_or_else(|e| panic!("{e}"));
        let errors = compile::check(&loaded.policy).unwrap_err();
        let answer = all_of(&errors, &loaded.places);
        assert_eq!(answer.error, "the policy has 2 problems");
        for (name, problem) in ["shop-wide", "cart-wide"].iter().zip(&answer.problems) {
            let line = text.lines().position(|l| l.contains(name)).unwrap() as u32 + 1;
            assert_eq!((problem.file.as_deref(), problem.line), (Some("p.yaml"), Some(line)), "{problem:?}");
            assert_eq!(problem.column, Some(13), "at its name: {problem:?}");
            assert!(problem.rendered.as_deref().unwrap().contains("^^^^^^^^^\n"), "{problem:?}");
        }
        assert_eq!(answer.problems.len(), 2);
    }

    #[test]
    fn what_is_about_no_place_is_one_line() {
        let answer = too_large(CompileError::ArenaFull);
        assert_eq!((answer.error, answer.problems), (CompileError::ArenaFull.to_string(), Vec::new()));
    }
}
