"""What the study asks: experiments, statistics and figures, called by the notebooks."""
