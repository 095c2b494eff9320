"""The public face of Toyland, a small world that is drawn by a program and whose truth is therefore known.

A scene is data (`Scene`); `render` draws it and says where faces and hands are; `caption` describes it. The samplers
choose scenes: `sample_base` those that the base model is trained on, `class_scene`, `subject_scene`, `style_scene`,
`person_scene`, `face_scene` and `hand_scene` those of one kind. All are pure functions of their arguments.
"""

from boxes import Box, FaceBox, HandBox
from captions import caption
from picture import Rendering, render
from sampling import class_scene, face_scene, hand_scene, person_scene, sample_base, style_scene, subject_scene
from scene import Scene
from styles import STYLES
from styles.base import Style
from subjects import SUBJECTS, Subject
from things import CLASSES

__all__ = [
    "CLASSES", "SUBJECTS", "STYLES", "Box", "FaceBox", "HandBox", "Rendering", "Scene", "Style", "Subject", "caption",
    "class_scene", "face_scene", "hand_scene", "person_scene", "render", "sample_base", "style_scene",
    "subject_scene",
]
