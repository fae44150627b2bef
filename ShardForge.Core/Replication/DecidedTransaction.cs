namespace ShardForge.Replication;

/// <summary>What became of a transaction whose locks are still there. Final.</summary>
/// <param name="Id">The transaction.</param>
/// <param name="Commit">When it was committed; zero: it was aborted.</param>
internal readonly record struct DecidedTransaction(OperationId Id, Timestamp Commit)
{
    public bool IsCommitted => !Commit.IsZero;
}
