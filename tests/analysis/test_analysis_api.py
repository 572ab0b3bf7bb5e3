import inspect

import hsiutils.analysis as analysis


def test_public_names_exist_once_in_order_and_have_documentation():
    assert analysis.__all__ == sorted(set(analysis.__all__))
    for name in analysis.__all__:
        assert inspect.getdoc(getattr(analysis, name)), name


def test_everything_imported_for_the_public_is_listed():
    public = {name for name, value in vars(analysis).items() if callable(value) and not name.startswith("_")}
    assert public == set(analysis.__all__)
