"""README's threat model claims what tests show: every guarantee there names its tests here, and they exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECTION = re.compile(r"^## Threat model\n(.*?)(?=^## )", re.MULTILINE | re.DOTALL)
GUARANTEE = re.compile(r"^- \*\*(.+?)\.\*\*", re.MULTILINE)

TESTS = {
    "Secrets stay secret": (
        "test_whole_runs_show_no_secret",
        "test_a_failing_hook_does_not_tell_our_secrets",
        "test_failing_runs_do_not_tell_the_password",
        "test_the_command_of_one_secret_gets_no_other_secret",
    ),
    "For the owner alone": (
        "test_whatever_the_umask_nobody_else_can_read_what_is_written",
        "test_a_page_is_for_its_owner_only",
        "test_only_we_can_get_at_its_files",
    ),
    "History only grows": (
        "test_what_happened_since_the_last_night_is_found_tonight",
        "test_a_database_of_an_older_state_is_found_until_the_newer_one_is_back",
        "test_a_vault_whose_damage_is_signed_anew_passes_every_verifier",
        "test_whatever_is_cut_and_rewritten_is_found_and_nothing_else",
    ),
    "A plain name is a promise": (
        "test_a_killed_run_leaves_only_whole_archives_and_no_process",
        "test_what_changes_between_sealing_and_storing_gets_no_name",
        "test_what_changes_while_it_is_verified_ends_the_run",
    ),
    "Nothing good is pruned away": (
        "test_what_history_does_not_explain_stops_retention_until_it_is_accepted",
        "test_seven_fresh_archives_of_somebody_else_push_no_good_one_out",
        "test_a_newer_archive_that_nobody_calls_good_leaves_the_newest_good_one_where_it_is",
    ),
    "The split holds": (
        "test_what_keys_and_database_share_is_refused",
        "test_a_private_key_ends_the_run_and_is_shown_and_kept_nowhere",
        "test_a_key_among_the_provisioning_files_ends_the_run_unseen",
        "test_a_key_in_a_plugins_file_ends_the_run_unseen",
    ),
    "Archives are data": (
        "test_what_no_run_of_ours_stores_is_not_extracted",
        "test_no_command_writes_through_a_link_of_an_archive",
        "test_a_night_is_not_compared_through_a_link_of_an_archive",
        "test_owner_and_rights_of_an_archive_are_not_taken_over",
        "test_a_hostile_or_foreign_tarball_is_refused_for_what_it_holds",
    ),
    "Documents are data": (
        "test_no_value_in_a_manifest_makes_verification_crash",
        "test_no_value_in_a_history_makes_anything_crash",
        "test_a_hostile_configuration_is_refused_on_one_line",
        "test_a_file_with_one_byte_changed_is_verified_to_a_verdict",
        "test_hostile_cbor_ends_soon_and_fills_no_memory",
        "test_no_header_of_a_tar_makes_reading_crash",
    ),
    "Text is text": (
        "test_no_value_becomes_markup",
        "test_archives_of_hostile_names_and_comments_steer_no_terminal",
        "test_a_failing_hook_steers_no_terminal",
        "test_what_postgresql_says_steers_no_terminal",
    ),
    "A drill is locked up": ("test_what_an_archive_runs_has_no_network_and_is_not_root",),
}


def section() -> str:
    found = SECTION.search((ROOT / "README.md").read_text("utf-8"))
    assert found is not None, "README.md has no section Threat model"
    return found[1]


@cache
def existing_tests() -> frozenset[str]:
    trees = (ast.parse(path.read_text("utf-8")) for path in (ROOT / "tests").glob("test_*.py"))
    functions = (node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef))
    return frozenset(name for name in functions if name.startswith("test_"))


def test_every_guarantee_names_its_tests() -> None:
    assert GUARANTEE.findall(section()) == list(TESTS)
    assert all(TESTS.values())


def test_the_tests_that_are_named_exist() -> None:
    named = {name for names in TESTS.values() for name in names}
    assert named - existing_tests() == set()


def test_what_is_assumed_and_what_is_not_covered_is_said() -> None:
    for part in ("**Guaranteed**", "**Assumed**", "**Not covered**"):
        assert part in section()


def test_the_security_file_leads_to_the_threat_model_and_invents_no_address() -> None:
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    assert "(README.md#threat-model)" in text
    assert "security advisories" in text
    assert "@" not in text
    assert "(SECURITY.md)" in section().replace("`", "")
