"""Caches that tools need to write: shown as they are, written into a layer that is dropped at the end.

Rows are ``(path, variable, sign, reason)``. The kind is always *scratch*. Where the directory does not exist on the host there
is nothing to lay a layer over, so the caller may set ``variable`` to a directory of the sandbox's own; "" means the tool
has no such variable, or does well enough without: bun, cabal, ccache turn to XDG_CACHE_HOME, bundler, IPython and Keras to
a temporary directory. A variable is paid for at every exec, so there are only those that a tool stops without, and only where
``sign``, a program without which the tool is not used, is on the PATH; "" is for tools of every kind. Tools that a project
brings along (gradle's wrapper, what is in a virtual environment) go by what they run on.

Only directories whose lost writes cost time and nothing else are here: a virtual environment, an installed program or
a managed interpreter that vanished at the end would be a riddle, so ``~/.local/share/uv``, ``~/.local/bin``, ``~/go/bin``
stay read-only and an installation into them fails at once.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    CacheRow = tuple[str, str, str, str]

CACHES: Final[tuple[CacheRow, ...]] = (
    ("~/.cache", "XDG_CACHE_HOME", "", "pip, uv, go build, ccache, pre-commit and most others"),
    ("~/.local/state", "XDG_STATE_HOME", "", "logs and recent files; what the XDG specification calls not important enough to keep safe"),
    ("~/.npm", "npm_config_cache", "node", "packages and logs of npm; npm stops if it can't write here"),
    ("~/.local/share/pnpm", "", "", "pnpm's store; pnpm copies where it can't link"),
    ("~/.yarn", "YARN_GLOBAL_FOLDER", "node", "packages of yarn"),
    ("~/.bun", "", "", "packages of bun"),
    ("~/.deno", "", "", "older place of deno's packages"),
    ("~/.node-gyp", "", "", "older place of node's headers"),
    ("~/.cargo", "CARGO_HOME", "cargo", "all of it, since cargo's locks lie beside registry and git; binaries it installs are dropped"),
    ("~/.rustup", "", "", "rustup keeps locks and downloads beside its toolchains"),
    ("~/go/pkg", "GOMODCACHE", "go", "modules and checksums; not ~/go, which holds sources and installed programs"),
    ("~/.gradle", "GRADLE_USER_HOME", "java", "wrappers, dependencies, daemons' logs and locks"),
    ("~/.m2", "", "", "Maven's repository"),
    ("~/.ivy2", "", "", "Ivy's repository"),
    ("~/.sbt", "", "", "sbt's boot directory and locks"),
    ("~/.konan", "KONAN_DATA_DIR", "java", "Kotlin/Native's compiler and dependencies"),
    ("~/.android", "", "", "the Android build's cache, locks and debug key"),
    ("~/.nuget", "NUGET_PACKAGES", "dotnet", "packages of .NET"),
    ("~/.local/share/NuGet", "", "", "NuGet's list of sources it reached"),
    ("~/.dotnet", "DOTNET_CLI_HOME", "dotnet", "first-run marks and locks; dotnet stops if it can't write them"),
    ("~/.bundle", "", "", "bundler's cache and plugins"),
    ("~/.gem", "", "", "RubyGems' index and gems"),
    ("~/.local/share/gem", "", "", "RubyGems' index and gems"),
    ("~/.hex", "HEX_HOME", "mix", "packages of Elixir and Erlang"),
    ("~/.mix", "MIX_HOME", "mix", "archives of Elixir's build tool"),
    ("~/.pub-cache", "PUB_CACHE", "dart", "packages of Dart and Flutter"),
    ("~/.stack", "STACK_ROOT", "stack", "packages of Haskell"),
    ("~/.cabal", "", "", "packages of Haskell"),
    ("~/.julia", "JULIA_DEPOT_PATH", "julia", "compiled packages; Julia compiles into it at every import"),
    ("~/.conan", "", "", "packages of C and C++"),
    ("~/.conan2", "CONAN_HOME", "cmake", "packages of C and C++"),
    ("~/.conda/pkgs", "CONDA_PKGS_DIRS", "conda", "downloaded packages; not the environments beside them"),
    ("~/.ccache", "", "", "older place of the compiler cache"),
    ("~/.cmake", "", "", "CMake's registry of built packages"),
    ("~/.ipython", "", "", "profiles and locks; IPython warns at every start if it can't write"),
    ("~/.jupyter", "", "", "settings Jupyter touches at its start"),
    ("~/.local/share/jupyter", "JUPYTER_DATA_DIR", "python3", "connection files of running kernels; notebooks don't run without"),
    ("~/.config/matplotlib", "", "", "Matplotlib warns at every import if it can't write"),
    ("~/.keras", "", "", "downloaded models and settings"),
)
