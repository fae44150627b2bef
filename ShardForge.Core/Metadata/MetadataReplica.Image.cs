using ShardForge.Common;

namespace ShardForge.Metadata;

/// <summary>The image on the disk.</summary>
internal sealed partial class MetadataReplica
{
    /// <summary>An image is written at the latest after so many entries: bounds the replay and the log that it holds back.</summary>
    private const int EntriesPerImageMax = 1_024;

    private LogIndex _savedIndex;
    private LogIndex _triedIndex;
    private Task _lastSave = Task.CompletedTask;

    /// <summary>Writes the image as of now and lets the log go up to it. Called when the log wants to be cut (<c>INodeLog.CompactionWanted</c>) and before a clean close.</summary>
    public Task FlushAsync()
    {
        lock (_gate)
        {
            if (_image.AppliedIndex == _savedIndex || _closed)
                return _lastSave;
            // One after the other: a later image is never overwritten by an earlier one.
            return _lastSave = SaveAfterAsync(_lastSave);
        }
    }

    private async ValueTask SaveIfDueAsync()
    {
        if (Image.AppliedIndex.Value - Math.Max(_savedIndex.Value, _triedIndex.Value) < EntriesPerImageMax)
            return;
        _triedIndex = Image.AppliedIndex;
        try
        {
            await FlushAsync().ConfigureAwait(false);
        }
        catch (IOException error)
        {
            // A full disk, say. What is applied stays applied (R34): the log keeps the entries, and the next round tries a new file.
            MetadataLog.ImageNotWritten(_options.Logger, _options.NodeId, Image.AppliedIndex.Value, error);
        }
    }

    private Task WaitForSavesAsync()
    {
        lock (_gate)
            return _lastSave;
    }

    private async Task SaveAfterAsync(Task before)
    {
        // A failed save fails its own waiters; the next one writes a whole new file.
        await before.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        MetadataImage image;
        long generation;
        lock (_gate)
        {
            image = _image;
            generation = _generation;
        }

        string directory = GetGenerationDirectory(generation);
        DurableDirectory.Create(_options.FileSystem, directory);
        await MetadataFile.SaveAsync(
            _options.FileSystem, ImagePath(_options.Directory, generation), MetadataFile.ImageMagic, image.Encode(), $"shardforge-meta {_options.NodeId}").ConfigureAwait(false);

        Consensus.IRaftGroup? group;
        lock (_gate)
        {
            _savedIndex = LogIndexMax(_savedIndex, image.AppliedIndex);
            group = _group;
        }

        group?.ReleaseLog(image.AppliedIndex);

        static LogIndex LogIndexMax(LogIndex left, LogIndex right) => left >= right ? left : right;
    }

    private ValueTask<LogIndex> WriteImageAsync(string directory)
    {
        MetadataImage image = Image;
        return WriteAsync();

        async ValueTask<LogIndex> WriteAsync()
        {
            _options.FileSystem.CreateDirectory(directory);
            await MetadataFile.SaveAsync(
                _options.FileSystem, Path.Combine(directory, MetadataFile.ImageName), MetadataFile.ImageMagic, image.Encode(), $"shardforge-meta {_options.NodeId}").ConfigureAwait(false);
            return image.AppliedIndex;
        }
    }

    private void RemoveOtherGenerations(long generation)
    {
        string kept = GetGenerationDirectory(generation);
        foreach (string other in _options.FileSystem.ListDirectories(_options.Directory))
        {
            if (!string.Equals(Path.GetFileName(other), Path.GetFileName(kept), StringComparison.Ordinal))
                _options.FileSystem.DeleteDirectory(other);
        }
    }
}
