using ShardForge.Common;

namespace ShardForge.Storage.Lsm.Manifest;

/// <summary>Appends edits to the manifest and makes each durable before it counts.</summary>
/// <remarks>One thread at a time (the engine's manifest latch). A write that failed before its flush may be tried again at the same offset; a failed flush is final.</remarks>
internal sealed class ManifestWriter : IDisposable
{
    private readonly IFile _file;
    private long _offset, _durableOffset;

    private ManifestWriter(IFile file, ulong number, long offset, long durableOffset)
    {
        _file = file;
        Number = number;
        _offset = offset;
        _durableOffset = durableOffset;
    }

    public ulong Number { get; }

    /// <summary>Where the next record goes.</summary>
    public long EndOffset => _offset;

    /// <summary>Whether an edit was written of which nobody knows whether it counts: its tables must stay, and nothing may follow it.</summary>
    public bool IsInDoubt { get; private set; }

    /// <summary>What survives a power cut: all edits, not the promise behind the last one.</summary>
    public long DurableOffset => _durableOffset;

    /// <summary>Starts a manifest with one edit that says everything; durable with its content, its name not yet.</summary>
    public static ManifestWriter Create(IFileSystem files, string path, ulong number, VersionEdit everything)
    {
        IFile file = files.Open(path, FileOpenMode.CreateOrTruncate);
        try
        {
            file.Write(ManifestFormat.Header(number), 0);
            ManifestWriter writer = new(file, number, ManifestFormat.HeaderBytes, durableOffset: 0);
            writer.Append(everything);
            return writer;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Goes on behind the last valid record; a torn tail goes, and what is there is flushed.</summary>
    public static ManifestWriter Continue(IFileSystem files, string path, ulong number, long endOffset)
    {
        IFile file = files.Open(path, FileOpenMode.ReadWrite);
        try
        {
            // What was read may only be in the page cache; the caller is about to remove files because of it.
            if (file.Length > endOffset)
                file.SetLength(endOffset);
            file.Flush();
            return new(file, number, endOffset, endOffset);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Writes and flushes an edit. Blocks.</summary>
    public int Append(VersionEdit edit)
    {
        Invariant.Require(!IsInDoubt);
        byte[] record = ManifestFormat.Record(Number, _offset, ManifestRecordKind.Edit, _durableOffset, edit.Encode());

        // In doubt until proven otherwise: a second flush could succeed without the pages that the first one lost.
        IsInDoubt = true;
        try
        {
            _file.Write(record, _offset);
        }
        catch (IOException error) when (DiskErrors.IsDiskFull(error))
        {
            // Not whole on the disk, so it does not count; the next one overwrites it.
            IsInDoubt = false;
            throw;
        }

        _file.Flush();
        IsInDoubt = false;
        _offset += record.Length;
        _durableOffset = _offset;
        byte[] promise = ManifestFormat.Record(Number, _offset, ManifestRecordKind.Promise, _durableOffset, []);
        try
        {
            _file.Write(promise, _offset);
            _offset += promise.Length;
        }
        catch (IOException)
        {
            // The edit counts without it; the next edit overwrites what is there and promises the same.
            return record.Length;
        }

        return record.Length + promise.Length;
    }

    public void Dispose() => _file.Dispose();
}
