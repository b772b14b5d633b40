"""Builds the stage: a home directory with planted secrets and a workspace with every kind of git directory."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from pathlib import Path

from runner import Identity, Stage

# Path below the home directory → content. {token} makes every leak recognisable.
SECRETS = {
    ".ssh/id_ed25519": "-----BEGIN OPENSSH PRIVATE KEY-----\n{token}\n-----END OPENSSH PRIVATE KEY-----\n",
    ".ssh/config": "Host {token}\n",
    ".aws/credentials": "[default]\naws_secret_access_key = {token}\n",
    ".netrc": "machine example.org login me password {token}\n",
    ".config/gh/hosts.yml": "github.com:\n  oauth_token: {token}\n",
    ".npmrc": "//registry.npmjs.org/:_authToken={token}\n",
    ".pypirc": "[pypi]\npassword = {token}\n",
    ".git-credentials": "https://me:{token}@example.org\n",
    ".docker/config.json": '{{"auths": {{"x": {{"auth": "{token}"}}}}}}\n',
    ".kube/config": "token: {token}\n",
    ".gnupg/private-keys-v1.d/key.key": "{token}\n",
    ".config/gcloud/credentials.db": "{token}\n",
    ".azure/accessTokens.json": "{token}\n",
    ".bash_history": "export TOKEN={token}\n",
    ".python_history": "token = '{token}'\n",
    ".cargo/credentials.toml": 'token = "{token}"\n',
    ".config/houseroom/notes": "not secret\n",
}
PLAIN = {
    ".bashrc": "# nothing\n",
    ".profile": "# nothing\n",
    ".gitconfig": "[user]\n\tname = Probe\n\temail = probe@example.org\n[init]\n\tdefaultBranch = main\n",
    "other/file": "another project\n",
    "other/directory/file": "deep\n",
    ".cache/tool/blob": "cached\n",
    ".local/bin/tool": "#!/bin/sh\necho tool\n",
}
WORKSPACE = {
    "file": "content\n",
    "directory/file": "content\n",
    "deep/er/still/file": "content\n",
    "src/main.c": "int main(void) { return 0; }\n",
    ".gitignore": ".env\nnested/\nwt/\nlinked/\nrealgit/\n*.pyc\n",
}

MAKE_REPOSITORIES = r"""
set -e
export GIT_TEMPLATE_DIR=/nonexistent
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=protocol.file.allow GIT_CONFIG_VALUE_0=always
git init -q ../origin 2> /dev/null && git -C ../origin commit -q --allow-empty -m origin
git init -q . && mkdir .git/hooks && git add .gitignore file directory deep src && git commit -q -m first
git submodule --quiet add ../origin submodule && git commit -q -m submodule
echo more >> file && git commit -q -am second && git branch side
git worktree add -q wt side
git init -q nested && echo n > nested/file && git -C nested add file && git -C nested commit -q -m nested
mkdir linked && git init -q linked && mv linked/.git realgit && ln -s ../realgit linked/.git
mkdir -p .claude && echo '{}' > .claude/settings.json && echo '{}' > .mcp.json
git add .claude .mcp.json && git commit -q -m settings
git status > /dev/null
"""

SETUID_C = r"""
#include <stdio.h>
#include <unistd.h>
int main(void) { puts("probe: setuid"); puts(geteuid() != getuid() || getegid() != getgid() ? "DONE" : "no gain"); return 0; }
"""

INT80_C = r"""
#include <stdio.h>
int main(void) {
    long got;
    puts("probe: int80"); fflush(stdout);
    __asm__ volatile ("int $0x80" : "=a"(got) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");  /* getpid */
    puts(got > 0 ? "DONE" : "refused");
    return 0;
}
"""


def write_all(root: Path, files: dict[str, str], token: str) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(token=token) if "{token}" in text else text)


def build(identity: Identity, root: Path, pristine: Path) -> Stage:
    """Build the stage at ``root`` (git keeps absolute paths in worktrees), then keep a copy."""
    token = f"s3cret-{secrets.token_hex(8)}"
    stage = Stage(identity, root, pristine, token)
    for place in (stage.workspace, stage.outside, stage.runtime, stage.home / ".local/state/houseroom"):
        place.mkdir(parents=True)
    stage.runtime.chmod(0o700)
    (stage.home / ".local/state/houseroom").chmod(0o700)
    write_all(stage.home, {**SECRETS, **PLAIN}, token)
    (stage.home / ".ssh").chmod(0o700)
    (stage.home / ".local/bin/tool").chmod(0o755)
    write_all(stage.workspace, WORKSPACE, token)
    write_all(stage.outside, {"file": "outside\n", "victim": "outside\n", "directory/file": "outside\n"}, token)
    (stage.outside / "empty").mkdir()
    subprocess.run(["chown", "-R", f"{identity.uid}:{identity.gid}", str(root)], check=True)
    environment = {"HOME": str(stage.home), "PATH": "/usr/bin:/bin"}
    make = ["sh", "-c", MAKE_REPOSITORIES]
    subprocess.run(make, cwd=stage.workspace, env=environment, check=True, capture_output=True, **identity.credentials())
    for name in (".env", "directory/.env", "deep/er/.env.local"):
        stage.plant(stage.workspace / name, f"API_KEY={token}\n")
    subprocess.run(["cp", "-a", str(root), str(pristine)], check=True)
    return stage


def compile_helpers(identity: Identity) -> None:
    """Programs that no script can stand in for: a set-user-id one, and the 32-bit system call entry."""
    place = identity.base / "bin"
    place.mkdir()
    place.chmod(0o755)
    if not shutil.which("gcc"):
        return
    for name, text in (("setuid", SETUID_C), ("int80", INT80_C)):
        source = place / f"{name}.c"
        source.write_text(text)
        subprocess.run(["gcc", "-O1", "-o", str(place / name), str(source)], check=True)
