//! Which crate may know which: the drawing of the architecture, as a table.

use super::Report;
use super::workspace::{Member, Workspace};

/// Our crates from the bottom up, and which of ours each may depend on. Siblings do not know each
/// other. A new crate is a new row here and in the drawing.
const LAYERS: &[(&str, &[&str])] = &[
    ("zmsg-core", &[]),
    ("zmsg-sqlbuilder", &["zmsg-core"]),
    ("zmsg-store", &["zmsg-core", "zmsg-sqlbuilder"]),
    ("zmsg-redis", &["zmsg-core"]),
    ("zmsg-cache", &["zmsg-core", "zmsg-redis"]),
    ("zmsg-bloom", &["zmsg-core", "zmsg-redis"]),
    ("zmsg-idgen", &["zmsg-core", "zmsg-sqlbuilder", "zmsg-store"]),
    ("zmsg-wal", &["zmsg-core"]),
    ("zmsg-queue", &["zmsg-core", "zmsg-redis", "zmsg-sqlbuilder", "zmsg-store", "zmsg-wal"]),
    ("zmsg-aggregate", &["zmsg-core", "zmsg-sqlbuilder", "zmsg-store", "zmsg-wal"]),
    ("zmsg", BELOW_THE_FACADE),
    ("zmsg-benches", WHOLE_ENGINE),
    ("zmsg-testbed", &[]),
    ("xtask", &["zmsg-testbed"]),
];

const BELOW_THE_FACADE: &[&str] = &[
    "zmsg-core",
    "zmsg-sqlbuilder",
    "zmsg-store",
    "zmsg-redis",
    "zmsg-cache",
    "zmsg-bloom",
    "zmsg-idgen",
    "zmsg-wal",
    "zmsg-queue",
    "zmsg-aggregate",
];

const WHOLE_ENGINE: &[&str] = &[
    "zmsg",
    "zmsg-core",
    "zmsg-sqlbuilder",
    "zmsg-store",
    "zmsg-redis",
    "zmsg-cache",
    "zmsg-bloom",
    "zmsg-idgen",
    "zmsg-wal",
    "zmsg-queue",
    "zmsg-aggregate",
];

/// Crates that do no I/O, by what they must never reach.
const UNREACHABLE: &[(&str, &str)] = &[("zmsg-core", "tokio"), ("zmsg-sqlbuilder", "tokio")];

/// A client of an outside system belongs to the crate that owns the concern.
const OWNED: &[(&str, &str)] = &[("rusqlite", "zmsg-store")];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["common", "utils", "util", "helpers", "helper", "misc"];

/// Whether a name, or a part of it, says nothing.
pub(super) fn says_nothing(name: &str) -> bool {
    name.split(['-', '_']).any(|part| EMPTY_NAMES.contains(&part))
}

/// Compares the table with the manifests.
pub(super) fn check(workspace: &Workspace, report: &mut Report) {
    for (name, _) in LAYERS {
        if !workspace.members.iter().any(|member| member.name == *name) {
            report.problem(format!("{name} is in the table of layers and not in the workspace"));
        }
    }
    for member in &workspace.members {
        check_member(member, report);
    }
    for (name, forbidden) in UNREACHABLE {
        if workspace.reach(name).contains(forbidden) {
            report.problem(format!("{name} reaches {forbidden}: it has to stay free of I/O"));
        }
    }
}

fn check_member(member: &Member, report: &mut Report) {
    let Member { name, folder, dependencies } = member;
    if says_nothing(name) {
        report.problem(format!("package {name} has a name that says nothing"));
    }
    if name != folder && name != "zmsg-benches" {
        report.problem(format!("package {name} lies in a folder called {folder}"));
    }
    let Some((_, allowed)) = LAYERS.iter().find(|(known, _)| known == name) else {
        return report.problem(format!("package {name} is not in the table of layers"));
    };
    for dependency in dependencies {
        let ours = LAYERS.iter().any(|(known, _)| known == dependency);
        if ours && !allowed.contains(&dependency.as_str()) {
            report.problem(format!("{name} must not depend on {dependency}"));
        }
        let owner = OWNED.iter().find(|(owned, _)| owned == dependency);
        if let Some((_, owner)) = owner.filter(|(_, owner)| owner != name) {
            report.problem(format!("{name} must not depend on {dependency}: {owner} owns it"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn workspace(changed: &[(&str, &[&str])]) -> Workspace {
        let members = LAYERS.iter().map(|(name, _)| {
            let dependencies = changed.iter().find(|(member, _)| member == name);
            let dependencies = dependencies.map_or(&[][..], |(_, dependencies)| dependencies);
            let folder = if *name == "zmsg-benches" { "benches" } else { name };
            Member {
                name: (*name).to_owned(),
                folder: folder.to_owned(),
                dependencies: dependencies.iter().map(|&name| name.to_owned()).collect(),
            }
        });
        Workspace { members: members.collect(), needs: BTreeMap::new() }
    }

    fn problems(workspace: &Workspace) -> Vec<String> {
        let mut report = Report::default();
        check(workspace, &mut report);
        report.problems
    }

    #[test]
    fn each_layer_lies_above_what_it_may_know() {
        for (index, (name, allowed)) in LAYERS.iter().enumerate() {
            for below in *allowed {
                let position = LAYERS.iter().position(|(known, _)| known == below);
                assert!(position.is_some_and(|found| found < index), "{name} → {below}");
            }
        }
    }

    #[test]
    fn downward_dependencies_are_fine() {
        let tree =
            workspace(&[("zmsg-store", &["zmsg-core", "rusqlite"]), ("zmsg", &["zmsg-queue"])]);
        assert_eq!(problems(&tree), [""; 0]);
    }

    #[test]
    fn siblings_and_upward_dependencies_are_found() {
        let tree = workspace(&[("zmsg-cache", &["zmsg-bloom"]), ("zmsg-core", &["zmsg-store"])]);
        assert_eq!(
            problems(&tree),
            ["zmsg-core must not depend on zmsg-store", "zmsg-cache must not depend on zmsg-bloom"]
        );
    }

    #[test]
    fn a_client_outside_its_crate_is_found() {
        let tree = workspace(&[("zmsg-idgen", &["rusqlite"])]);
        assert_eq!(problems(&tree), ["zmsg-idgen must not depend on rusqlite: zmsg-store owns it"]);
    }

    #[test]
    fn a_runtime_below_the_store_is_found_however_far_away() {
        let mut tree = workspace(&[]);
        let needs = |name: &str, needed: &str| (name.into(), BTreeSet::from([needed.into()]));
        tree.needs = BTreeMap::from([needs("zmsg-core", "between"), needs("between", "tokio")]);
        assert_eq!(problems(&tree), ["zmsg-core reaches tokio: it has to stay free of I/O"]);
    }

    #[test]
    fn unknown_missing_and_misnamed_packages_are_found() {
        let mut tree = workspace(&[]);
        tree.members.retain(|member| member.name != "zmsg-bloom");
        let name = "zmsg-common".to_owned();
        tree.members.push(Member { name, folder: "x".into(), dependencies: vec![] });
        assert_eq!(
            problems(&tree),
            [
                "zmsg-bloom is in the table of layers and not in the workspace",
                "package zmsg-common has a name that says nothing",
                "package zmsg-common lies in a folder called x",
                "package zmsg-common is not in the table of layers"
            ]
        );
    }
}
