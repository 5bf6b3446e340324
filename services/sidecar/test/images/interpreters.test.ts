// The default image carries no language interpreter but the Node of its harness; and git, which others are made for, works so.
import { describe, expect, test } from "vitest";
import { LOCKED_DOWN, readInside, type Target } from "./agent-container.ts";

const AS_ROOT = ["--user", "0"];

/** By name, with a version behind it or not. sh and sed are in every target: git is partly made of them. */
const NAMES = [
  ..."perl pypy python awk gawk mawk nawk original-awk busybox toybox ruby jruby irb lua luajit tclsh wish expect".split(
    " ",
  ),
  ..."php guile gjs qjs bun deno node nodejs java mono dotnet Rscript octave julia ocaml erl elixir escript".split(
    " ",
  ),
  ..."racket sbcl clisp scheme gforth m4 bc dc ed ex vi vim emacs gdb bash rbash zsh ksh mksh fish csh tcsh pwsh".split(
    " ",
  ),
  ..."cc gcc g++ clang tcc go rustc as ld make cmake gmake".split(" "),
];

/** What the interpreters themselves have in their text, whatever their file is called. */
const MARKS = [
  "PERL5LIB",
  "PYTHONHOME",
  "LUA_PATH",
  "RUBYLIB",
  "TCLLIBPATH",
  "AWKPATH",
  "WHINY_USERS",
  "MAWK",
  "BASH_VERSINFO",
];
MARKS.push("GUILE_LOAD_PATH", "BusyBox v", "ZDOTDIR", "PHPRC", "NODE_OPTIONS");

/** Files that can be executed or loaded. */
const LIST =
  "find / -xdev -type f \\( -perm /111 -o -name '*.so*' \\) -print; find / -xdev -type l -path '*/bin/*' -print";

function findByName(target: Target, before = ":"): string[] {
  const pattern = new RegExp(`/(${NAMES.map((name) => name.replaceAll("+", "\\+")).join("|")})[\\d.]*$`);
  const library = /\/lib(perl|python|lua|ruby|guile|tcl|php|mozjs|node|v8)[\w.-]*\.so/;
  return readInside(target, `${before}; { ${LIST}; } 2>/dev/null`, AS_ROOT)
    .split("\n")
    .filter((path) => (pattern.test(path) || library.test(path)) && !/^\/opt\/pillion\/pi\//.test(path))
    .toSorted();
}

function findByContent(target: Target, before = ":"): string[] {
  const script = `${before}; find / -xdev -type f -perm /111 -exec grep -laE '${MARKS.join("|")}' {} +; :`;
  const isShellText = (path: string) => /\/(which\.debianutils|tzselect)$/.test(path); // sh, with a word on zsh and ksh
  return readInside(target, script, AS_ROOT)
    .split("\n")
    .filter((path) => path !== "" && !isShellText(path))
    .toSorted();
}

/** Scripts that nothing can run here: `#!` of a program that is not there. */
function findBrokenScripts(target: Target, before = ":"): string[] {
  const list = "grep -rIHnm1 '^#!' /etc /home /opt /usr /var | grep ':1:#!'";
  const found = readInside(
    target,
    `${before}; ${list}; echo ---; ls /usr/bin /usr/local/bin /opt/pillion/bin`,
    AS_ROOT,
  );
  const [scripts = "", programs = ""] = found.split("\n---\n");
  const known = new Set(programs.split("\n"));
  return scripts.split("\n").flatMap((line) => {
    const at = line.lastIndexOf(":1:#!");
    const path = line.slice(0, at);
    const words = line
      .slice(at + ":1:#!".length)
      .trim()
      .split(/\s+/);
    const name = (words[0]?.endsWith("/env") ? words[1] : words[0])?.split("/").at(-1) ?? "";
    return known.has(name) ? [] : [`${path} wants ${name}`];
  });
}

describe("S4.3 the default image", () => {
  test("has no interpreter but Node, neither by name nor by what is in the files", () => {
    expect(findByName("base")).toEqual(["/opt/pillion/node/bin/node", "/usr/local/bin/node"]);
    expect(findByContent("base")).toEqual(["/opt/pillion/node/bin/node"]);
  });

  test("would be found out: slim's interpreters are seen, and so is one under another name", () => {
    expect(findByName("slim")).toEqual(
      [
        ...[
          "/usr/bin/awk",
          "/usr/bin/bash",
          "/usr/bin/mawk",
          "/usr/bin/nawk",
          "/usr/bin/python3",
          "/usr/bin/python3.11",
        ],
        ...["/usr/bin/rbash", "/usr/local/bin/node", "/opt/pillion/node/bin/node"],
      ].toSorted(),
    );
    const planted =
      "mv /usr/bin/python3.11 /usr/bin/hidden; mv /usr/bin/bash /usr/bin/bash-free; mv /usr/bin/mawk /opt/tool";
    expect(findByContent("slim", planted)).toEqual(
      ["/opt/tool", "/usr/bin/bash-free", "/usr/bin/hidden", "/opt/pillion/node/bin/node"].toSorted(),
    );
  });

  test.each<Target>(["base", "slim", "browser"])(
    "%s has no script whose interpreter is missing",
    (target) => {
      expect(findBrokenScripts(target)).toEqual([]);
      const plant = "printf '#!/usr/bin/perl -w\\n' >/usr/bin/a; printf '#! /usr/bin/env ruby\\n' >/opt/b";
      expect(findBrokenScripts(target, plant).toSorted()).toEqual([
        "/opt/b wants ruby",
        "/usr/bin/a wants perl",
      ]);
    },
  );

  test("has a package list that tells what is there, and not what was taken out", () => {
    const names = readInside("base", "dpkg-query --list | grep '^ii'")
      .split("\n")
      .map((line) => line.split(/[\s:]+/)[1] ?? "");
    expect(names).toEqual(expect.arrayContaining(["git", "dash", "tini"]));
    expect(names.filter((name) => /^(perl|libperl|mawk|bash$|python|apt$)/.test(name))).toEqual([]);
  });
});

describe("S4.3 git without perl and awk", () => {
  const script = `
    set -e
    cd /workspace
    git config --file /tmp/config user.name a && git config --file /tmp/config user.email a@b
    export GIT_CONFIG_GLOBAL=/tmp/config
    git init --quiet --initial-branch main one && cd one
    printf '1\\n2\\n3\\n4\\n5\\n' >f && git add f && git commit --quiet --message first
    git checkout --quiet -b side && sed -i s/1/one/ f && git commit --quiet --all --message side
    git checkout --quiet main && sed -i s/5/five/ f && git commit --quiet --all --message main
    git diff --stat side main | tail -n 1
    git log --oneline --graph --all | wc -l
    sed -i s/3/three/ f && git stash --quiet && git status --short && git stash pop --quiet && git status --short
    git diff >/tmp/patch && git checkout --quiet f && git apply --check /tmp/patch && git apply /tmp/patch
    git commit --quiet --all --message third
    git format-patch --quiet -1 --output-directory /tmp/patches && git reset --quiet --hard HEAD~ && git am --quiet /tmp/patches/*
    git checkout --quiet side && git rebase --quiet main && git log --format=%s | tr '\\n' ' ' && echo
    git rebase --quiet --interactive HEAD~2 && git rebase --quiet --onto main~ main side
    git checkout --quiet main && git merge --quiet --no-edit side && cat f | tr '\\n' ' ' && echo
    git clone --quiet /workspace/one /workspace/two && git -C /workspace/two pull --quiet && git -C /workspace/two push --quiet origin HEAD:copy
    git worktree add --quiet ../three side && git worktree list | wc -l
    git -c protocol.file.allow=always submodule --quiet add /workspace/two sub && git submodule status | wc -l
    echo six >>f; echo y | git add --patch f | grep -c Stage; git reset --quiet --hard; git blame f | wc -l; git bisect start HEAD HEAD~1 | head -n 1; git bisect reset 2>/dev/null
    git grep -c five; git archive HEAD f | tar -t; git fsck --no-dangling; git gc --quiet; git bundle create --quiet /tmp/bundle main && git show --stat --format=%s HEAD | head -n 1
  `;

  test("does what agents do with it", () => {
    expect(readInside("base", script, LOCKED_DOWN).trim().split("\n")).toEqual([
      ...["1 file changed, 2 insertions(+), 2 deletions(-)", "4", " M f", "side third main first "],
      ...["Auto-merging f", "one 2 three 4 five ", "2", "1", "1", "5"],
      "Bisecting: 0 revisions left to test after this (roughly 0 steps)",
      ...["f:1", "f", "Merge branch 'side'"],
    ]);
  });
});
