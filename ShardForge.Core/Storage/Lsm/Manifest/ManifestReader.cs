using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Manifest;

/// <summary>Reads a manifest from its beginning and tells a torn tail from damage (<see cref="ManifestFormat"/>).</summary>
internal static class ManifestReader
{
    /// <summary>Largest manifest that is read: far above what the writer lets one grow to.</summary>
    private const long BytesMax = 1L << 30;

    /// <returns>The edits in their order, and the offset behind the last valid record.</returns>
    public static (List<VersionEdit> Edits, long EndOffset) Read(IFileSystem files, string path, ulong number)
    {
        byte[] bytes = ReadAll(files, path);
        ManifestFormat.CheckHeader(path, number, bytes);
        List<VersionEdit> edits = [];
        long offset = ManifestFormat.HeaderBytes;
        while (ManifestFormat.TryReadRecord(bytes, number, offset, out ManifestRecordKind kind, out _, out ReadOnlySpan<byte> payload))
        {
            if (kind == ManifestRecordKind.Edit)
                edits.Add(VersionEdit.Decode(payload, path, offset));
            offset += ManifestFormat.RecordHeaderBytes + payload.Length;
        }

        for (long later = offset + 1; later <= bytes.Length - ManifestFormat.RecordHeaderBytes; later++)
        {
            if (ManifestFormat.TryReadRecord(bytes, number, later, out _, out long promise, out _) && promise > offset)
                throw new CorruptionException(path, offset, $"no valid edit is here, but the record at {later:N0} says that all below {promise:N0} was durable.");
        }

        if (edits.Count == 0)
            throw new CorruptionException(path, offset, "the manifest has no edit, and its first one was durable before it was named.");
        return (edits, offset);
    }

    private static byte[] ReadAll(IFileSystem files, string path)
    {
        if (!files.FileExists(path))
            throw new CorruptionException(path, 0, "CURRENT names this manifest, and it is missing.");
        using IFile file = files.Open(path, FileOpenMode.Read);
        if (file.Length > BytesMax)
            throw new CorruptionException(path, 0, $"{file.Length:N0} bytes are more than any manifest has.");
        byte[] bytes = new byte[file.Length];
        int read = file.Read(bytes, 0);
        return read == bytes.Length ? bytes : bytes[..read];
    }
}
