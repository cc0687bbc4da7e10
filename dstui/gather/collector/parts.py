"""The collector's own modules, imported from memory: compiled when first needed, never from or to a disk."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

PACKAGES = ("dstui", "dstui.gather", "dstui.gather.collector")


class Parts:
    """A finder and loader over `parts`: module name → (`code`, marshalled) | (`source`, text) | (`zlib`, of text).

    Code is only shipped to a Python whose pyc magic is the controller's.
    """

    def __init__(self, parts: "dict[str, tuple[str, bytes]]") -> None:
        self.parts = parts

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        if name in self.parts or name in PACKAGES:
            # The class of any spec is at hand; importing importlib.machinery for it is not free.
            return type(sys.__spec__)(name, self, is_package=name in PACKAGES)  # type: ignore[arg-type]
        return None

    def create_module(self, spec: object) -> None:
        return None

    def exec_module(self, module: "ModuleType") -> None:
        name = module.__name__
        if name in PACKAGES:
            return
        form, content = self.parts[name]
        if form == "code":
            import marshal

            exec(marshal.loads(content), module.__dict__)
        else:
            if form == "zlib":
                import zlib

                content = zlib.decompress(content)
            exec(compile(content, "<%s>" % name, "exec", 0, True), module.__dict__)


def install(parts: "dict[str, tuple[str, bytes]]") -> None:
    """Let `import` find the parts."""
    sys.meta_path.insert(0, Parts(parts))


def shipped() -> "dict[str, tuple[str, bytes]]":
    """The parts that this process runs from; empty when it was imported from a disk, as tests do."""
    for finder in sys.meta_path:
        if isinstance(finder, Parts):
            return finder.parts
    return {}


def run_shipped(parts: "dict[str, tuple[str, bytes]]", module: str, function: str, args: object) -> object:
    """In a second Python on the host: call one function of one part."""
    install(parts)
    return getattr(__import__(module, fromlist=[function]), function)(args)
