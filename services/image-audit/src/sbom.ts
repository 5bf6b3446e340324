/** The bill of materials of an image in CycloneDX: npm packages, Debian packages, and programs of other origin. */
import { ComponentType, HashAlgorithm } from "@cyclonedx/cyclonedx-library/Enums";
import {
  Bom,
  Component,
  ComponentRepository,
  HashDictionary,
  LicenseExpression,
  LicenseRepository,
  Metadata,
  NamedLicense,
  Property,
  PropertyRepository,
  SpdxLicense,
  Tools,
} from "@cyclonedx/cyclonedx-library/Models";
import { JSON as JsonForm, JsonSerializer } from "@cyclonedx/cyclonedx-library/Serialize";
import { isSupportedSpdxId } from "@cyclonedx/cyclonedx-library/SPDX";
import { Spec1dot6 } from "@cyclonedx/cyclonedx-library/Spec";
import { PackageURL } from "packageurl-js";
import type { KnownProgram } from "./code-owners.ts";
import type { DebianPackage } from "./debian-packages.ts";
import type { Image } from "./image-list.ts";
import type { EmbeddedPackage, NpmPackage } from "./npm-packages.ts";

export type Inventory = {
  readonly image: Image;
  readonly npm: readonly NpmPackage[];
  /** Inside others' bundles: neither version nor licence is told there. */
  readonly embedded: readonly EmbeddedPackage[];
  readonly debian: readonly DebianPackage[];
  readonly programs: readonly KnownProgram[];
};

const HASH_NOTE =
  "SHA-256 of a package: over the sorted lines '<sha256>  <path>' of its files in the image, as sha256sum prints them";

/** JSON of CycloneDX 1.6. `now` is when the audit was made. */
export function toSbom(
  { image, npm, embedded, debian, programs }: Inventory,
  version: string,
  now: Date,
): string {
  const tool = new Component(ComponentType.Application, "pillion audit-image", { version });
  const subject = new Component(ComponentType.Container, image.references[0] ?? image.id, {
    version: image.config.config?.Labels?.["org.opencontainers.image.version"] ?? "unknown",
    hashes: toHashes(image.id.replace("sha256:", "")),
    bomRef: image.id,
    properties: toProperties([
      ["pillion:platform", image.platform],
      ...image.layers.map(({ diffId }): [string, string] => ["pillion:layer", diffId]),
    ]),
  });
  const bom = new Bom({
    metadata: new Metadata({
      timestamp: now,
      tools: new Tools({ components: new ComponentRepository([tool]) }),
      component: subject,
      properties: toProperties([["pillion:hashes", HASH_NOTE]]),
    }),
  });
  for (const item of npm) bom.components.add(toNpmComponent(item));
  for (const item of embedded) bom.components.add(toEmbeddedComponent(item));
  for (const item of debian) bom.components.add(toDebianComponent(item));
  for (const item of programs) bom.components.add(toProgramComponent(item));
  const serializer = new JsonSerializer(new JsonForm.Normalize.Factory(Spec1dot6));
  return `${serializer.serialize(bom, { sortLists: true, space: 2 })}\n`;
}

function toEmbeddedComponent({ name, path }: EmbeddedPackage): Component {
  const [scope, own] = toScope(name);
  const purl = new PackageURL("npm", scope, own, null, null, null).toString();
  return new Component(ComponentType.Library, own, {
    ...(scope === undefined ? {} : { group: scope }),
    purl,
    bomRef: `${purl}#in:${path}`,
    properties: toProperties([["pillion:embedded-in", path]]),
  });
}

function toScope(name: string): [scope: string | undefined, own: string] {
  const at = name.indexOf("/");
  return name.startsWith("@") && at > 0 ? [name.slice(0, at), name.slice(at + 1)] : [undefined, name];
}

function toNpmComponent({ name, version, licence, path, contentSha256 }: NpmPackage): Component {
  const [scope, own] = toScope(name);
  const purl = new PackageURL("npm", scope, own, version, null, null).toString();
  return new Component(ComponentType.Library, own, {
    ...(scope === undefined ? {} : { group: scope }),
    version,
    purl,
    bomRef: `${purl}#${path}`,
    licenses: toLicences(licence === undefined ? [] : [licence]),
    ...(contentSha256 === undefined ? {} : { hashes: toHashes(contentSha256) }),
    properties: toProperties([["pillion:path", path]]),
  });
}

function toDebianComponent({ name, version, architecture, section, licences, contentSha256 }: DebianPackage) {
  const purl = new PackageURL("deb", "debian", name, version, { arch: architecture }, null).toString();
  return new Component(ComponentType.Library, name, {
    version,
    purl,
    bomRef: purl,
    licenses: new LicenseRepository(licences.map((licence) => new NamedLicense(licence))),
    hashes: toHashes(contentSha256),
    properties: toProperties([["pillion:section", section]]),
  });
}

function toProgramComponent({ name, path, licence, sha256 }: KnownProgram): Component {
  return new Component(ComponentType.Application, name, {
    bomRef: `${path}#${sha256}`,
    licenses: toLicences([licence]),
    hashes: toHashes(sha256),
    properties: toProperties([["pillion:path", path]]),
  });
}

function toLicences(texts: readonly string[]): LicenseRepository {
  return new LicenseRepository(
    texts.map((text) => {
      if (isSupportedSpdxId(text)) return new SpdxLicense(text);
      return / (OR|AND|WITH) /.test(text) ? new LicenseExpression(text) : new NamedLicense(text);
    }),
  );
}

function toHashes(sha256: string): HashDictionary {
  return new HashDictionary([[HashAlgorithm["SHA-256"], sha256]]);
}

function toProperties(pairs: readonly (readonly [string, string])[]): PropertyRepository {
  return new PropertyRepository(pairs.map(([name, value]) => new Property(name, value)));
}
