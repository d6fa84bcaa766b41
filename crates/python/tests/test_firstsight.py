"""What the wheel does, beside the command: `python -m unittest` where `firstsight` is installed."""

import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import zlib

import numpy as np

import firstsight


def png(pixels):
    """A PNG file of uint8 (H, W, 3)."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunk = lambda kind, data: (
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
    )
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def command(*arguments, **options):
    """The installed command."""
    program = pathlib.Path(sys.executable).parent / "firstsight"
    return subprocess.run([program, *arguments], capture_output=True, text=True, cwd=here, **options)


class FirstsightTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        global here
        cls.folder = tempfile.TemporaryDirectory()
        here = pathlib.Path(cls.folder.name)
        draws = np.random.default_rng(1)
        cls.arrays = {}
        for name, color in [("red", (200, 60, 50)), ("blue", (40, 60, 210))]:
            (here / "photos" / name).mkdir(parents=True)
            for i in range(24):
                noise = draws.integers(-40, 40, (32, 40, 3))
                pixels = np.clip(noise + np.array(color), 0, 255).astype(np.uint8)
                cls.arrays[f"photos/{name}/{i}.png"] = pixels
                (here / f"photos/{name}/{i}.png").write_bytes(png(pixels))
        trained = command(
            "train", "photos", "--model", "small-cnn", "--input", "32x40x3", "--epochs", "3", "--batch-size", "8",
            "--out", "run", "--cache", "cache",
        )  # fmt: skip
        assert trained.returncode == 0, trained.stderr
        cls.classifier = firstsight.Classifier(here / "run")
        cls.paths = [str(here / name) for name in cls.arrays]

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def said(self, *more):
        found = command("predict", "--run", "run", "--json", *more, *self.paths)
        return json.loads(found.stdout)

    def test_answers_are_those_of_the_command(self):
        self.assertEqual(self.classifier.predict(self.paths), self.said())
        one = self.classifier.predict(pathlib.Path(self.paths[0]), top=1)
        self.assertEqual([len(row["predictions"]) for row in one], [1])
        rejecting = self.classifier.predict(self.paths, reject=0.9)
        self.assertEqual(rejecting, self.said("--reject=0.9"))

    def test_arrays_are_answered_as_their_files(self):
        arrays = list(self.arrays.values())
        by_file, by_array = self.classifier.predict(self.paths), self.classifier.predict(arrays)
        strip = lambda rows: [{key: row[key] for key in row if key != "image"} for row in rows]
        self.assertEqual(strip(by_array), strip(by_file))
        self.assertEqual(by_array[0]["image"], "array")
        probabilities = self.classifier.probabilities(arrays)
        self.assertEqual((probabilities.shape, probabilities.dtype), ((48, 2), np.float32))
        self.assertTrue(np.array_equal(probabilities, self.classifier.probabilities(self.paths)))
        for row, expected in zip(probabilities, by_file):
            for guess in expected["predictions"]:
                self.assertEqual(row[guess["index"]], np.float32(guess["probability"]))
        # Views with other strides, gray images, one image alone, none.
        view = np.flip(np.flip(arrays[0], 1), 1)
        self.assertTrue(np.array_equal(self.classifier.probabilities(view), self.classifier.probabilities([arrays[0]])))
        gray = self.classifier.probabilities([arrays[0][:, :, 0], arrays[0][:, :, :1]])
        self.assertTrue(np.array_equal(gray[0], gray[1]))
        self.assertEqual(self.classifier.probabilities([]).shape, (0, 2))

    def test_what_is_wrong_is_an_exception(self):
        text = here / "text.png"
        text.write_text("text")
        rows = self.classifier.predict([text, self.paths[0]])
        self.assertIn("text.png", rows[0]["error"])
        self.assertIn("predictions", rows[1])
        with self.assertRaisesRegex(firstsight.ImageError, "text.png"):
            self.classifier.probabilities([text])
        with self.assertRaises(FileNotFoundError):
            firstsight.Classifier(here / "none")
        with self.assertRaisesRegex(firstsight.RunError, "config.json"):
            firstsight.Classifier(here / "photos")
        with self.assertRaisesRegex(ValueError, "cuda, metal"):
            firstsight.Classifier(here / "run", device="tpu")
        with self.assertRaisesRegex(TypeError, "float64"):
            self.classifier.predict(np.zeros((4, 4, 3)))
        with self.assertRaisesRegex(TypeError, "int"):
            self.classifier.predict([3])
        for wrong in [np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]:
            with self.assertRaisesRegex(ValueError, r"\(H, W, 3\)"):
                self.classifier.predict(wrong)
        with self.assertRaisesRegex(ValueError, "between 0 and 1"):
            self.classifier.predict(self.paths[:1], reject=2.0)
        with self.assertRaisesRegex(ValueError, "at least 1"):
            self.classifier.predict(self.paths[:1], top=0)
        self.assertTrue(issubclass(firstsight.RunError, firstsight.FirstsightError))

    def test_it_says_what_it_is(self):
        self.assertEqual(self.classifier.labels, ["blue", "red"])
        self.assertEqual(self.classifier.input_size, (3, 32, 40))
        self.assertEqual(self.classifier.task, "single-label")
        self.assertIn("firstsight", command("--version").stdout)
        self.assertEqual(command("predict", "--nothing").returncode, 2)
        module = subprocess.run([sys.executable, "-m", "firstsight", "--version"], capture_output=True, text=True)
        self.assertIn(firstsight.__version__, module.stdout)

    def test_other_threads_run_meanwhile(self):
        many = list(self.arrays.values()) * 100
        steps, done = 0, threading.Event()

        def work():
            self.classifier.probabilities(many)
            done.set()

        thread = threading.Thread(target=work)
        thread.start()
        while not done.wait(0.001):
            steps += 1
        thread.join()
        self.assertGreater(steps, 3, "Python ran while the network did")
        # Two at a time get what one gets.
        expected = self.classifier.probabilities(many[:48])
        found = [None, None]

        def ask(i):
            found[i] = self.classifier.probabilities(many[:48])

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(2)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        self.assertTrue(all(np.array_equal(one, expected) for one in found))

    @unittest.skipUnless(hasattr(signal, "SIGINT") and sys.platform != "win32", "signals of Unix")
    def test_ctrl_c_ends_it(self):
        script = (
            "import firstsight, signal, sys\n"
            # A shell's background jobs ignore it.
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "classifier = firstsight.Classifier(sys.argv[1])\n"
            "print('ready', flush=True)\n"
            "try:\n    classifier.probabilities([sys.argv[2]] * 1_000_000)\n"
            "except KeyboardInterrupt:\n    print('interrupted')\n"
        )
        arguments = [sys.executable, "-c", script, str(here / "run"), self.paths[0]]
        child = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        self.assertEqual(child.stdout.readline(), "ready\n")
        time.sleep(4)
        child.send_signal(signal.SIGINT)
        self.assertEqual(child.communicate(timeout=60)[0], "interrupted\n")


if __name__ == "__main__":
    unittest.main()
