//! The documents say what the code does.

#[test]
fn every_setting_is_documented_with_its_default() {
    let text = include_str!("../../../../docs/configuration.md");
    for setting in zmsg::setting_docs() {
        let row = format!("| `{}` | {} | `{}` |", setting.path, setting.expects, setting.default);
        assert!(text.contains(&row), "docs/configuration.md lacks the row {row}");
    }
}
