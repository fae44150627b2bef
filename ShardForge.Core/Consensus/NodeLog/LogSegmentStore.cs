using System.Globalization;
using ShardForge.Common;

namespace ShardForge.Consensus.NodeLog;

/// <summary>The files of a node log: creates segments, recycles them, finds them again.</summary>
/// <remarks><code>
/// 0000000000000007.seg   a segment; numbers without gaps
/// 0000000000000007.free  was a segment: nobody needs it, its file may become another one
/// 0000000000000009.new   is being made a segment; worthless after a crash
/// end                    <see cref="LogEndFile"/>
/// </code>
/// A segment appears complete: zeros and header are flushed before the rename to its name. It goes by a rename too, flushed before its file is
/// touched again; oldest first, so a crash leaves no gap. A recycled file is not zeroed: no record of its former life fits the new number.
/// <para>One caller at a time.</para></remarks>
internal sealed class LogSegmentStore(IFileSystem files, string directory)
{
    private const long FillBytes = 1024 * 1024;
    private const string SegmentSuffix = ".seg", FreeSuffix = ".free", NewSuffix = ".new";
    private (string Path, long Bytes)? _free;

    public string Directory => directory;

    public IFileSystem Files => files;

    /// <summary>Makes a segment ready: from the file that is kept for that, or a new one.</summary>
    public LogSegment Create(in LogSegmentHeader header)
    {
        string path = PathOf(header.Number, SegmentSuffix), source = PathOf(header.Number, NewSuffix);
        bool recycles = _free is { } kept && kept.Bytes == header.Bytes;
        if (recycles)
        {
            source = _free!.Value.Path;
            _free = null;
        }

        IFile file = files.Open(source, recycles ? FileOpenMode.ReadWrite : FileOpenMode.CreateOrTruncate);
        try
        {
            if (!recycles)
                Fill(file, header.Bytes);
            Span<byte> block = stackalloc byte[LogFormat.HeaderBytes];
            LogFormat.WriteHeader(block, header);
            file.Write(block, 0);
            file.Flush();
            files.Rename(source, path);
            files.FlushDirectory(directory);
        }
        catch (Exception error)
        {
            file.Dispose();
            // What a full disk left half-done takes room that others need.
            if (DiskErrors.IsDiskFull(error))
                files.Delete(source);
            throw;
        }

        return new LogSegment(path, file, header);
    }

    /// <summary>Takes a segment out of the log. Its file is kept for the next one, if none is kept.</summary>
    public void Free(LogSegment segment)
    {
        Invariant.Require(!segment.IsNeeded && !segment.HasReaders);
        string path = PathOf(segment.Number, FreeSuffix);
        segment.Dispose();
        files.Rename(segment.Path, path);
        files.FlushDirectory(directory);
        if (_free is { } kept)
            files.Delete(kept.Bytes < segment.Bytes ? kept.Path : path);
        if (_free is null || _free.Value.Bytes < segment.Bytes)
            _free = (path, segment.Bytes);
    }

    /// <summary>Opens the segments that are there, by number. Nothing is changed.</summary>
    public List<LogSegment> OpenAll()
    {
        List<LogSegment> segments = [];
        try
        {
            foreach ((long number, string path) in Numbered(SegmentSuffix).OrderBy(static found => found.Number))
            {
                IFile file = files.Open(path, FileOpenMode.ReadWrite);
                try
                {
                    segments.Add(OpenOne(number, path, file, segments.Count == 0 ? null : segments[^1]));
                }
                catch
                {
                    file.Dispose();
                    throw;
                }
            }

            return segments;
        }
        catch
        {
            segments.ForEach(static segment => segment.Dispose());
            throw;
        }
    }

    /// <summary>Removes what a crash left of segments on their way in or out.</summary>
    public void RemoveLeftovers()
    {
        foreach ((_, string path) in Numbered(FreeSuffix).Concat(Numbered(NewSuffix)).ToArray())
            files.Delete(path);
    }

    // In steps, each flushed: the log thread's flushes wait for what the disk has before them.
    private static void Fill(IFile file, long bytes)
    {
        for (long filled = FillBytes; filled < bytes; filled += FillBytes)
        {
            file.Preallocate(filled);
            file.Flush();
        }

        file.Preallocate(bytes);
    }

    private static LogSegment OpenOne(long number, string path, IFile file, LogSegment? before)
    {
        byte[] block = new byte[LogFormat.HeaderBytes];
        LogSegmentHeader header = LogFormat.ReadHeader(block.AsSpan(0, file.Read(block, 0)), path);
        if (header.Number != number)
            throw new CorruptionException(path, 0, $"the segment header has number {header.Number}.");
        if (file.Length < header.Bytes)
            throw new CorruptionException(path, file.Length, $"the file ends here; the segment has {header.Bytes:N0} bytes.");
        if (before is not null && header.Number != before.Number + 1)
            throw new CorruptionException(path, 0, $"the segment before it is {before.Number}: {header.Number - before.Number - 1} are missing.");
        if (before is not null && (header.LogId != before.LogId || header.StartPosition != before.StartPosition + before.Bytes))
            throw new CorruptionException(path, 0, $"it does not continue segment {before.Number} of log {before.LogId}.");
        return new LogSegment(path, file, header);
    }

    private IEnumerable<(long Number, string Path)> Numbered(string suffix)
    {
        foreach (string path in files.ListFiles(directory))
        {
            string name = Path.GetFileName(path);
            if (name.EndsWith(suffix, StringComparison.Ordinal) &&
                long.TryParse(name.AsSpan(0, name.Length - suffix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out long number))
                yield return (number, path);
        }
    }

    private string PathOf(long number, string suffix) => Path.Combine(directory, number.ToString("D16", CultureInfo.InvariantCulture) + suffix);
}
