//! Which whole names a name may mean: the search list of `resolv.conf`, as the system's resolver goes through it.
//!
//! Pure. It is gone through until the first answer; from then on what was found is asked for alone: pods have lists of three
//! and more domains, and a list that leads elsewhere while the right server is away would replace all backends.

/// A search list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Search {
    /// The domains, without a dot at their end.
    pub domains: Vec<String>,
    /// A name with so many dots is tried as it stands before all domains; others behind.
    pub ndots: usize,
}

impl Search {
    /// What `name` may mean, each with a dot at its end, in the order in which it is to be asked for.
    #[must_use]
    pub fn names(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let whole = format!("{name}.");
        let domains = self.domains.iter().filter(|domain| !domain.is_empty());
        let mut names: Vec<String> = domains.map(|domain| format!("{name}.{domain}.")).collect();
        if name.matches('.').count() >= self.ndots {
            names.insert(0, whole);
        } else {
            names.push(whole);
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a pod in the namespace `default` has it.
    fn kubernetes() -> Search {
        let domains = [
            "default.svc.cluster.local",
            "svc.cluster.local",
            "cluster.local",
        ];
        Search {
            domains: domains.map(str::to_owned).into(),
            ndots: 5,
        }
    }

    #[test]
    fn a_whole_name_is_asked_for_once() {
        let name = "mcp.default.svc.cluster.local.";
        assert_eq!(kubernetes().names(name), [name]);
    }

    #[test]
    fn names_of_pods_are_found_where_they_are() {
        let first = |name| kubernetes().names(name)[0].clone();
        assert_eq!(first("mcp"), "mcp.default.svc.cluster.local.");
        let names = kubernetes().names("mcp.default.svc");
        assert_eq!(
            names[2..],
            ["mcp.default.svc.cluster.local.", "mcp.default.svc."]
        );
    }

    #[test]
    fn many_dots_mean_that_the_name_may_be_whole() {
        let names = kubernetes().names("a.b.c.d.e.f");
        assert_eq!((&*names[0], names.len()), ("a.b.c.d.e.f.", 4));
        assert_eq!(Search::default().names("mcp"), ["mcp."]);
    }
}
