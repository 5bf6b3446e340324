// Which npm packages are inside the bundles, with their licences' texts: the list that an image carries and its audit reads.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";

const LICENCE_TEXT = /^(licen[cs]es?|copying|unlicense|mit-license)([.-][\w.-]*)?$/i;

/** Collects what one directory's files are made of, and writes its THIRD-PARTY.json. */
export class ThirdPartyList {
  #root;
  #directory;
  #files = new Map();
  #packages = new Map();

  /** `root` is the clone, for licence texts that a package does not bring; `directory` is where the list will lie. */
  constructor(root, directory) {
    this.#root = root;
    this.#directory = directory;
  }

  /** Takes esbuild's word for what it put into each of its outputs. */
  addBundles({ outputs }) {
    for (const [path, { inputs }] of Object.entries(outputs)) {
      if (path.endsWith(".map")) continue;
      const directories = Object.keys(inputs).flatMap(
        (input) => toPackageDirectory(join(this.#root, input)) ?? [],
      );
      this.addFile(join(this.#root, path), directories);
    }
  }

  /** A file that comes from packages as a whole, or from none. */
  addFile(path, packageDirectories) {
    const names = [...new Set(packageDirectories)].map((directory) => this.#addPackage(directory));
    this.#files.set(relative(this.#directory, path), { path, packages: names.sort() });
  }

  write() {
    const files = [...this.#files].map(([path, file]) => ({
      path,
      sha256: createHash("sha256").update(readFileSync(file.path)).digest("hex"),
      packages: file.packages,
    }));
    const list = {
      files: files.sort(byKey("path")),
      packages: [...this.#packages.values()].sort(byKey("name")),
    };
    writeFileSync(join(this.#directory, "THIRD-PARTY.json"), `${JSON.stringify(list, undefined, 1)}\n`);
  }

  #addPackage(directory) {
    const { name, version, license } = JSON.parse(readFileSync(join(directory, "package.json"), "utf8"));
    const text = readLicenceText(this.#root, directory, name);
    if (text === undefined)
      throw new Error(`${name} brings no text of its licence; put it into config/licence-texts/`);
    const id = `${name}@${version}`;
    this.#packages.set(id, { name, version, licence: license ?? "", text });
    return id;
  }
}

/** The package's own file, else the one that we keep for packages that forgot it. */
export function readLicenceText(root, directory, name) {
  const own = readdirSync(directory).find((file) => LICENCE_TEXT.test(file));
  const kept = join(root, "config/licence-texts", `${name.replace("/", "__")}.txt`);
  if (own !== undefined) return readFileSync(join(directory, own), "utf8");
  return existsSync(kept) ? readFileSync(kept, "utf8") : undefined;
}

function toPackageDirectory(path) {
  return /^.*\/node_modules\/(?:@[^/]+\/)?[^@./][^/]*(?=\/)/.exec(path)?.[0];
}

function byKey(key) {
  return (a, b) => (a[key] < b[key] ? -1 : a[key] > b[key] ? 1 : 0);
}
