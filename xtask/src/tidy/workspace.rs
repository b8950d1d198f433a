//! The packages of the workspace, as `cargo metadata` knows them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::shell::cargo;

/// Our packages, and what every package of the lock file needs.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub(super) members: Vec<Member>,
    /// Name of a package → the names it depends on, in order to run.
    pub(super) needs: BTreeMap<String, BTreeSet<String>>,
}

/// One of our packages.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    /// The directory that holds it.
    pub(super) folder: String,
    /// The names in its `[dependencies]` and `[build-dependencies]`, optional ones included.
    pub(super) dependencies: Vec<String>,
}

impl Workspace {
    /// Asks cargo.
    pub(super) fn read() -> Result<Self> {
        let output = cargo("metadata --format-version 1 --all-features").at_root().read()?;
        let metadata: Value = serde_json::from_slice(&output)?;
        Self::parse(&metadata).context("cargo metadata has another shape than expected")
    }

    fn parse(metadata: &Value) -> Option<Self> {
        let packages = metadata["packages"].as_array()?;
        let ours = metadata["workspace_members"].as_array()?;
        let members = packages.iter().filter(|package| ours.contains(&package["id"])).map(member);
        let names: BTreeMap<&str, &str> = packages
            .iter()
            .map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
            .collect::<Option<_>>()?;
        let mut needs = BTreeMap::<String, BTreeSet<String>>::new();
        for node in metadata["resolve"]["nodes"].as_array()? {
            let name = *names.get(node["id"].as_str()?)?;
            let needed = needs.entry(name.to_owned()).or_default();
            for dependency in node["deps"].as_array()? {
                let kinds = dependency["dep_kinds"].as_array()?;
                if kinds.iter().any(|kind| kind["kind"].is_null()) {
                    needed.insert((*names.get(dependency["pkg"].as_str()?)?).to_owned());
                }
            }
        }
        Some(Self { members: members.collect::<Option<_>>()?, needs })
    }

    /// Everything that this package needs in order to run, directly or not.
    pub(super) fn reach(&self, name: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut open = vec![name];
        while let Some(next) = open.pop() {
            for needed in self.needs.get(next).into_iter().flatten() {
                if found.insert(needed.as_str()) {
                    open.push(needed);
                }
            }
        }
        found
    }
}

fn member(package: &Value) -> Option<Member> {
    let manifest = package["manifest_path"].as_str()?;
    let mut parts = manifest.rsplit(['/', '\\']).skip(1);
    let dependencies = package["dependencies"].as_array()?.iter();
    let dependencies = dependencies
        .filter(|dependency| dependency["kind"] != "dev")
        .map(|dependency| Some(dependency["name"].as_str()?.to_owned()));
    Some(Member {
        name: package["name"].as_str()?.to_owned(),
        folder: parts.next()?.to_owned(),
        dependencies: dependencies.collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn optional_dependencies_count_and_those_of_tests_do_not() {
        let metadata = json!({
            "workspace_members": ["a#1"],
            "packages": [
                { "id": "a#1", "name": "a", "manifest_path": "/x/crates/a/Cargo.toml",
                  "dependencies": [
                    { "name": "b", "kind": null, "optional": true },
                    { "name": "c", "kind": "dev" },
                ]},
                { "id": "b#1", "name": "b", "manifest_path": "/y/b/Cargo.toml", "dependencies": [] },
                { "id": "c#1", "name": "c", "manifest_path": "/y/c/Cargo.toml", "dependencies": [] },
                { "id": "d#1", "name": "d", "manifest_path": "/y/d/Cargo.toml", "dependencies": [] },
            ],
            "resolve": { "nodes": [
                { "id": "a#1", "deps": [
                    { "pkg": "b#1", "dep_kinds": [{ "kind": null }] },
                    { "pkg": "c#1", "dep_kinds": [{ "kind": "dev" }] },
                ]},
                { "id": "b#1", "deps": [{ "pkg": "d#1", "dep_kinds": [{ "kind": null }] }] },
                { "id": "c#1", "deps": [] },
                { "id": "d#1", "deps": [] },
            ]},
        });
        let workspace = Workspace::parse(&metadata).unwrap();
        assert_eq!(workspace.members.len(), 1);
        assert_eq!(workspace.members[0].folder, "a");
        assert_eq!(workspace.members[0].dependencies, ["b"]);
        assert_eq!(workspace.reach("a"), BTreeSet::from(["b", "d"]));
    }
}
