"""scripts/vendor-deps: what it gathers, and that CMake finds all of it there: vendor_deps_test.py ROOT LIBTORCH."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT, LIBTORCH = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
SCRIPT = ROOT / "scripts/vendor-deps"
FOUND_HERE = ("CLI11_DIR", "nlohmann_json_DIR", "spdlog_DIR", "fmt_DIR", "GTest_DIR", "PNG_LIBRARY_RELEASE", "PNG_PNG_INCLUDE_DIR",
              "JPEG_LIBRARY_RELEASE", "JPEG_INCLUDE_DIR", "ZLIB_LIBRARY_RELEASE", "ZLIB_INCLUDE_DIR", "OPENSSL_CRYPTO_LIBRARY",
              "OPENSSL_INCLUDE_DIR", "UTF8PROC_INCLUDE_DIR", "UTF8PROC_LIBRARY", "CSV_INCLUDE_DIR", "CSV_LIBRARY")  # fmt: skip


class VendorDeps(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="molar-vendor-")).resolve()
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def run_checked(self, *words, **options):
        result = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout

    def test_a_tree_with_it_needs_nothing_else(self):
        """The tree, its .deps gathered anew, configured without a look at the system's own libraries."""
        tree = self.folder / "molar"
        tree.mkdir()
        for name in ("CMakeLists.txt", "cmake", "include", "src", "tests", "scripts"):
            (tree / name).symlink_to(ROOT / name)
        told = self.run_checked(SCRIPT, tree / ".deps")
        size_mb = sum(path.stat().st_size for path in (tree / ".deps").rglob("*")) / 1e6
        self.assertLess(size_mb, 40)
        self.assertRegex(told, rf"== {tree}/\.deps: \d+ MB\n$")
        compiler, ninja = shutil.which("g++"), shutil.which("ninja")
        self.run_checked("cmake", "-S", tree, "-B", tree / "build", "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={LIBTORCH}",
                         f"-DCMAKE_CXX_COMPILER={compiler}", f"-DCMAKE_MAKE_PROGRAM={ninja}", "-DMOLAR_JUDGE=OFF",
                         f"-DPython3_EXECUTABLE={sys.executable}", "-DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF",
                         "-DCMAKE_FIND_USE_SYSTEM_ENVIRONMENT_PATH=OFF")
        cache = dict(re.findall(r"^(\w+):\w+=(.*)$", (tree / "build/CMakeCache.txt").read_text(), re.MULTILINE))
        for name in FOUND_HERE:
            self.assertTrue(cache.get(name, "").startswith(str(tree / ".deps")), f"{name} is {cache.get(name)}")

    def test_replaces_what_was_there(self):
        (self.folder / "deps").mkdir()
        (self.folder / "deps/old").touch()
        self.run_checked(SCRIPT, self.folder / "deps")
        self.assertEqual(sorted(os.listdir(self.folder)), ["deps"])
        self.assertEqual(sorted(os.listdir(self.folder / "deps")), ["include", "lib"])

    def test_says_how_it_is_called(self):
        for word, code in (("--help", 0), ("--what", 2)):
            result = subprocess.run([SCRIPT, word], capture_output=True, text=True)
            self.assertEqual(result.returncode, code)
            self.assertIn("usage: scripts/vendor-deps", result.stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
