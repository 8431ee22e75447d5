internal import Format
internal import HostIO
internal import Primitives

/// The chain documents, the manifests and the layer files of a replica directory.
final class ChainStore: Sendable {
    static let layersName = "layers"

    let directory: any Directory
    let layers: any Directory

    init(directory: any Directory, layers: any Directory) {
        self.directory = directory
        self.layers = layers
    }

    // MARK: Documents

    /// Writes document `document.number`, twice, so that it is durable before a super slot names it.
    ///
    /// 1. Write and fsync `chain.<n>.json` and its copy. A crash leaves files that nothing names.
    /// 2. fsync the directory. The caller's super commit makes it the chain.
    func write(_ document: ChainDocument) throws(IOError) -> Hash128 {
        let bytes = document.encoded()
        for name in [ChainDocument.fileName(document.number), ChainDocument.copyName(document.number)] {
            try writeNew(directory, name, bytes)
        }
        try directory.sync()
        return bytes.withUnsafeBytes { hash128($0) }
    }

    /// Removes the documents of `number`; the ones in force carry a later one.
    func removeDocument(_ number: UInt64) {
        try? directory.remove(ChainDocument.fileName(number))
        try? directory.remove(ChainDocument.copyName(number))
    }

    /// Reads the document that the super block names, from its copy if need be.
    func read(_ number: UInt64, hash: Hash128) throws(StoreError) -> (document: ChainDocument, remarks: [String]) {
        var remarks: [String] = []
        for name in [ChainDocument.fileName(number), ChainDocument.copyName(number)] {
            do {
                return (try Self.verified(directory, name, hash: hash), remarks)
            } catch {
                remarks.append("\(name): \(error)")
            }
        }
        throw .damagedMetadata(
            path: directory.path,
            what: "no copy of chain document \(number) verifies: \(remarks.joined(separator: "; "))")
    }

    /// One copy of a document, checked against the hash of its bytes.
    static func verified(
        _ directory: any Directory, _ name: String, hash: Hash128
    ) throws(StoreError) -> ChainDocument {
        let bytes: [UInt8]
        do throws(IOError) {
            let file = try directory.open(name, .readOnly)
            bytes = try file.readAll(limit: FormatLimit.chainDocumentBytes)
        } catch {
            throw .io(error)
        }
        guard bytes.withUnsafeBytes({ hash128($0) }) == hash else {
            throw .damagedMetadata(path: name, what: "the document does not match its checksum")
        }
        do throws(FormatError) {
            return try ChainDocument(decoding: bytes)
        } catch {
            throw error.cause == .newer
                ? .unsupportedFormat(error.what) : .damagedMetadata(path: name, what: error.what)
        }
    }

    private func writeNew(_ directory: any Directory, _ name: String, _ bytes: [UInt8]) throws(IOError) {
        let file: any File
        do throws(IOError) {
            file = try directory.open(name, .create)
        } catch {
            // Left by a crash before its commit: nothing names it.
            guard error.exists else { throw error }
            try directory.remove(name)
            file = try directory.open(name, .create)
        }
        try write(file, bytes)
    }

    private func write(_ file: any File, _ bytes: [UInt8]) throws(IOError) {
        var failure: IOError?
        bytes.withUnsafeBytes { buffer in
            do throws(IOError) { try file.write(buffer, at: 0) } catch { failure = error }
        }
        if let failure { throw failure }
        try file.sync()
    }

    // MARK: Manifests

    /// Replaces the manifest of a sealed layer: a new file, fsync, rename over the old one. The directory is synced by
    /// the caller. A crash leaves the old or the new one; neither decides anything.
    func writeManifest(volume: Identifier, _ layer: ChainDocument.Layer) throws(IOError) {
        guard let identifier = Identifier(layer.uuid) else { invariantFailed("layer \(layer.uuid)") }
        let name = LayerFiles.manifestName(identifier)
        let temporary = name + ".tmp"
        try writeNew(layers, temporary, LayerManifest(volume: volume, layer: layer).encoded())
        try layers.rename(temporary, to: name)
    }

    // MARK: Layer files

    /// Makes the two files of a new layer and makes them durable.
    ///
    /// 1. Create the image with the volume's size, and the map; fsync both. A crash leaves files that nothing names.
    /// 2. fsync the directory. A record or a chain document may name them now.
    func createLayer(_ identifier: Identifier, size: UInt64) throws(IOError) -> LayerFiles {
        let image = try layers.open(LayerFiles.imageName(identifier), .create)
        let sums = try layers.open(LayerFiles.sumsName(identifier), .create)
        try image.truncate(to: size)
        try image.sync()
        try sums.sync()
        try layers.sync()
        return LayerFiles(identifier: identifier, image: image, sums: sums)
    }

    func openLayer(_ identifier: Identifier, access: FileAccess) throws(IOError) -> LayerFiles {
        LayerFiles(
            identifier: identifier,
            image: try layers.open(LayerFiles.imageName(identifier), access),
            sums: try layers.open(LayerFiles.sumsName(identifier), access))
    }

    /// Unlinks the files of a layer that nothing names any more.
    func removeLayer(_ identifier: Identifier) {
        for name in [
            LayerFiles.manifestName(identifier), LayerFiles.sumsName(identifier), LayerFiles.imageName(identifier),
        ] {
            try? layers.remove(name)
        }
        try? layers.sync()
    }

    /// Names that a crash left behind: layer files and documents that neither the chain nor the journal names.
    func orphans(known: Set<Identifier>, chainNumber: UInt64) throws(IOError) -> [(
        directory: any Directory, name: String
    )] {
        var found: [(directory: any Directory, name: String)] = []
        for entry in try layers.list() where entry.kind == .file {
            let parts = entry.name.split(separator: ".", omittingEmptySubsequences: false)
            guard let first = parts.first, let identifier = Identifier(String(first)) else { continue }
            let suffix = parts.dropFirst().joined(separator: ".")
            if suffix == "json.tmp" {
                found.append((layers, entry.name))
            } else if ["img", "sums", "json"].contains(suffix), !known.contains(identifier) {
                found.append((layers, entry.name))
            }
        }
        for entry in try directory.list() where entry.kind == .file {
            let parts = entry.name.split(separator: ".")
            guard parts.count >= 3, parts[0] == "chain", let number = UInt64(parts[1]), number != chainNumber,
                entry.name == ChainDocument.fileName(number) || entry.name == ChainDocument.copyName(number)
            else { continue }
            found.append((directory, entry.name))
        }
        return found
    }
}
