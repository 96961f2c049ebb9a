"""Prediction: from videos to saliency maps, files and folders of results."""
