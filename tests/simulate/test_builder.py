import numpy as np
from miniature import stage

from hsiutils.simulate.builder import Pose, box, frustum
from hsiutils.simulate.geometry import FRONT, LEFT, REAR, RIGHT, TOP


def test_heading_turns_to_the_right() -> None:
    np.testing.assert_allclose(Pose(1, 2, np.pi / 2).point(0, 3, 0.5), [4, 2, 0.5], atol=1e-12)
    np.testing.assert_allclose(Pose(1, 2, np.pi / 2).point(1, 0, 0), [1, 1, 0], atol=1e-12)


def test_faces_of_a_box_look_the_way_their_names_say() -> None:
    normal, offset = box(Pose(0, 0), (-1, 2, -3, 4), 0.5, 6).planes
    np.testing.assert_allclose(
        normal[[TOP, REAR, FRONT, LEFT, RIGHT]], [(0, 0, 1), (0, -1, 0), (0, 1, 0), (-1, 0, 0), (1, 0, 0)]
    )
    np.testing.assert_allclose(offset, [-0.5, 6, 3, 4, 1, 2])


def test_every_face_of_a_frustum_is_plane() -> None:
    body = frustum(Pose(3, 9, 0.3), (-1, 1, -2, 2), 0.4, (-0.7, 0.8, -1.1, 0.3), 1.5)
    normal, offset = body.planes
    distance = body.corners @ normal.T - offset
    assert np.all((np.abs(distance) < 1e-9).sum(axis=0) == 4)
    assert distance.max() < 1e-9


def test_slots_and_objects_are_numbered_as_they_come() -> None:
    on = stage()
    first, second = on.slot("brick", 6, "soil"), on.slot("brick", 6)
    assert (first, second) == (0, 1)
    assert on.labels == [6, 6]
    assert on.slots[0].sample != on.slots[1].sample
    cube = box(Pose(0, 0), (-1, 1, -1, 1), 0, 1)
    for slots in (7, (1, 2, 3, 4, 5, 6)):
        on.begin()
        on.add(cube, slots)
    assert [part.object_id for part in on.parts] == [3, 4], "1 is the ground, 2 the hills"
    assert [part.slots for part in on.parts] == [(7,) * 6, (1, 2, 3, 4, 5, 6)]
