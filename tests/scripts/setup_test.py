"""Holds scripts/lib/setup.sh to what the README promises of an existing libtorch: setup_test.py ROOT LIBTORCH."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT, LIBTORCH = pathlib.Path(sys.argv[1]), sys.argv[2]


def setup(command, folder="/", **environment):
    """The output of one of setup.sh's functions, called from `folder`."""
    return subprocess.run(["bash", "-ec", f'source "{ROOT}/scripts/lib/setup.sh"; {command}'], cwd=folder, text=True,
                          capture_output=True, env={"PATH": os.environ["PATH"], **environment})


class ExistingLibtorch(unittest.TestCase):
    def test_is_found_in_the_prefix_path(self):
        with tempfile.TemporaryDirectory() as other:
            found = setup("existing_libtorch", CMAKE_PREFIX_PATH=f"{other}:{LIBTORCH}")
        self.assertEqual(found.stdout.strip(), LIBTORCH, found.stderr)

    def test_is_used_instead_of_a_wheel(self):
        used = setup("install_libtorch", CMAKE_PREFIX_PATH=LIBTORCH)
        self.assertEqual(used.returncode, 0, used.stderr)
        self.assertIn(f"using the libtorch in {LIBTORCH}", used.stdout)

    def test_is_not_seen_where_there_is_none(self):
        with tempfile.TemporaryDirectory() as other:
            self.assertEqual(setup("existing_libtorch", CMAKE_PREFIX_PATH=other).stdout, "")
        self.assertEqual(setup("existing_libtorch").stdout, "")


class Settings(unittest.TestCase):
    def test_refuses_a_build_of_torch_that_there_is_not(self):
        refused = setup("install_libtorch", MOLAR_TORCH="rocm")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("MOLAR_TORCH=rocm: wanted cpu or cuda", refused.stderr)

    def test_jobs_fit_the_machine(self):
        self.assertIn(int(setup("build_jobs").stdout), range(1, os.cpu_count() + 1))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
